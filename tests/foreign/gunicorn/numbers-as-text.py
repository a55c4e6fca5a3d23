workers = "4"
threads = "0x2"
timeout = True
keepalive = 0
max_requests = 0
preload_app = "false"
reload = False
reload_extra_files = ["a.txt"]
