from base_settings import *

bind = "127.0.0.1:8000"
max_requests = 800
