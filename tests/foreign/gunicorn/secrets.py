SECRET_KEY = "hunter2"
raw_env = ["DJANGO_SETTINGS_MODULE=mysite.settings", "DB_PASSWORD=hunter2", "DATABASE_URL=postgres://u:s3cr3t@db/x"]
proc_name = "mysite"
statsd_host = "localhost:8125"
