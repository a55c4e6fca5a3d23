bind = "0.0.0.0:8000"
wrokers = 4
max_request = 1000
log_level = "debug"
access_logfile = "-"
hostname_of_the_database = "db"
WORKERS = 3
