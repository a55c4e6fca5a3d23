# Sourced by pyserve before the start, as root: the site and its settings where they are missing, and sshd.
#
# SSH_PASSWD=root:PASSWORD     lets root log in on port 2222 with this password
# SSH_PUBLIC_KEY=KEY           lets root log in with this key; without both, sshd does not start

appservice=/usr/local/lib/pyserve/appservice
log_file=${PYSERVE_STARTUP_LOG:-/home/LogFiles/entrypoint.log}
# A site is served also where its volumes are read-only or full.
log() {
    set -- "$(date -u +%Y-%m-%dT%H:%M:%SZ) $1"
    printf '%s\n' "$1" >&2
    { printf '%s\n' "$1" >>"$log_file"; } 2>/dev/null || true
}

# Copies a file of the image, whole or not at all.
put() { cp "$appservice/$1" "$2/$1" 2>/dev/null || { rm -f "$2/$1" 2>/dev/null; return 1; }; }

# /home may be a volume that is empty, or that lets only its owner write.
mkdir -p /home/site/wwwroot "$(dirname "$log_file")" || true
if touch "$log_file"; then
    chown www-data:www-data "$(dirname "$log_file")" "$log_file" 2>/dev/null || true
fi
# Volumes may be read-only: what is in them is used as it is.
mkdir -p "$UWSGI_INI_DIR" 2>/dev/null || true
for name in uwsgi.ini uwsgi_django.ini; do
    [ -e "$UWSGI_INI_DIR/$name" ] || put "$name" "$UWSGI_INI_DIR" ||
        log "$UWSGI_INI_DIR cannot be written: it gets no $name"
done
if [ ! -e "$UWSGI_INI_DIR/uwsgi.ini" ]; then
    log "$appservice/uwsgi.ini is read in place of $UWSGI_INI_DIR/uwsgi.ini"
    export UWSGI_INI_DIR=$appservice
fi
[ -e /tmp/uwsgi_django.ini ] || put uwsgi_django.ini /tmp ||
    log "/tmp cannot be written: it gets no uwsgi_django.ini"
if [ -z "$(ls -A /home/site/wwwroot)" ]; then
    if put hostingstart.html /home/site/wwwroot && put index.py /home/site/wwwroot; then
        chown www-data:www-data /home/site/wwwroot /home/site/wwwroot/* 2>/dev/null || true
    else
        log "/home/site/wwwroot is empty and cannot be written: there is no default page"
    fi
fi
log "$(python --version), $(pyserve --version)"

# A second start beside the server, which has its sshd, starts no other one.
if [ -n "${SSH_PASSWD:-}${SSH_PUBLIC_KEY:-}" ] && (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null; then
    log "sshd does not start: something listens on port 2222"
elif [ -n "${SSH_PASSWD:-}${SSH_PUBLIC_KEY:-}" ] &&
    ! { mkdir -p -m 755 /run/sshd && mkdir -p -m 700 /run/sshd-keys && : >/run/sshd-keys/login.conf; } 2>/dev/null; then
    log "sshd does not start: /run cannot be written"
elif [ -n "${SSH_PASSWD:-}${SSH_PUBLIC_KEY:-}" ]; then
    # The platform's console (webssh) wants one of these ciphers and MACs; it alone reaches the port there.
    if [ -n "${WEBSITE_INSTANCE_ID:-}" ]; then
        printf 'Ciphers +aes128-cbc,aes256-cbc\nMACs +hmac-sha1,hmac-sha1-96\n' >>/run/sshd-keys/login.conf
    fi
    for kind in ed25519 ecdsa; do
        [ -e "/run/sshd-keys/ssh_host_${kind}_key" ] ||
            ssh-keygen -q -t "$kind" -N '' -f "/run/sshd-keys/ssh_host_${kind}_key"
    done
    if [ -n "${SSH_PASSWD:-}" ]; then
        printf '%s\n' "$SSH_PASSWD" | chpasswd || log "SSH_PASSWD has no effect: it is no USER:PASSWORD, or /etc cannot be written"
        printf 'PasswordAuthentication yes\nPermitRootLogin yes\n' >>/run/sshd-keys/login.conf
    fi
    if [ -n "${SSH_PUBLIC_KEY:-}" ]; then
        printf '%s\n' "$SSH_PUBLIC_KEY" >/run/sshd-keys/authorized_keys
        printf 'PubkeyAuthentication yes\nAuthorizedKeysFile /run/sshd-keys/authorized_keys\n' >>/run/sshd-keys/login.conf
        [ -n "${SSH_PASSWD:-}" ] || printf 'PermitRootLogin prohibit-password\n' >>/run/sshd-keys/login.conf
    fi
    # A session gets the variables of the container, as the application does, but no secrets of the log-in.
    env -0 | while IFS= read -r -d '' pair; do
        case "$pair" in SSH_PASSWD=* | HOME=* | PWD=* | OLDPWD=* | SHLVL=* | _=*) continue ;; esac
        printf 'export %q\n' "$pair"
    done >/run/sshd-keys/environment
    printf '[ -r /run/sshd-keys/environment ] && . /run/sshd-keys/environment\n' >/etc/profile.d/pyserve.sh ||
        log "/etc cannot be written: sessions get no variables of the container"
    # Beside the server, which cannot start processes of root any more. Started again if it ends.
    (
        unset SSH_PASSWD SSH_PUBLIC_KEY
        trap - EXIT TERM INT
        while :; do
            /usr/sbin/sshd -D -e || true
            sleep 2
        done
    ) &
    log "sshd listens on port 2222"
else
    log "sshd does not start: neither SSH_PASSWD nor SSH_PUBLIC_KEY is set"
fi
# The application has no use for the password.
unset SSH_PASSWD
