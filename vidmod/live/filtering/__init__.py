"""What becomes of pictures and sound: values and packets, no process, no socket, no clock."""
