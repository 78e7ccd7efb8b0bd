"""Worker: the process of one instance, and the messages that are its only contract with the server."""
