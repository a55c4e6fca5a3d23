wsgi_app = "mysite:create_app('production', debug=False)"
worker_class = "tornado"
reload = True
reload_extra_files = ["templates/*.html"]
