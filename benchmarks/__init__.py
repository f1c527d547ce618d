"""Times and memory of this project beside mmdet's and the official tools'."""
