workers = 2
max_request = 7
