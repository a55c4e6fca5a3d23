wsgi_app = "project.asgi:application"
worker_class = "uvicorn.workers.UvicornWorker"
workers = 4
forwarded_allow_ips = "*"
