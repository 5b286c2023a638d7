"""The processes of a live filter, what joins them, what each may reach, and who watches them."""
