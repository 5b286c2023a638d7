"""Models: manifest → weights → session → predictions. The only importer of inference runtimes."""

from vidmod.models.images import Geometry, ModelInput
from vidmod.models.manifest import Manifest, find, shipped
from vidmod.models.model import Model
from vidmod.models.runtimes import RUNTIMES, SessionInfo

__all__ = ["RUNTIMES", "Geometry", "Manifest", "Model", "ModelInput", "SessionInfo", "find", "shipped"]
