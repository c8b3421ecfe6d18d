"""Did the server forget, and at what cost?"""
