wsgi_app = "mysite:create_app()"
bind = ["unix:/run/a.sock", "tcp://127.0.0.1", "fd://3"]
dirty_apps = []
control_socket_disable = True
http_protocols = "h1"
