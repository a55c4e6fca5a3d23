import ssl

certfile = "site.pem"
keyfile = "site.key"
ca_certs = "clients.pem"
cert_reqs = ssl.CERT_REQUIRED


def pre_exec(server):
    pass
