bind = "0.0.0.0:443"
certfile = "/etc/ssl/site.pem"
keyfile = "/etc/ssl/site.key"
ssl_version = 2
ca_certs = None
cert_reqs = 0
ciphers = "TLSv1"
