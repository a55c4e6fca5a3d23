wsgi_app = "mysite:create_app()['web']"
proxy_protocol = "v3"
