paste = "/srv/app/production.ini#main"
wsgi_app = "other:app"
