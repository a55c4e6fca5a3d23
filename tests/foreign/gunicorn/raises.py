import os

workers = 2
bind = "0.0.0.0:" + os.environ["SURELY_NOT_SET_PORT"]
threads = 4
