//! A chain of the real nginx and the real gunicorn beside pyserve, which has the files of both in one process.

use std::process::Command;

use crate::support::behind::{Behind, program};
use crate::support::nginx::Nginx;
use crate::support::server::Pyserve;
use crate::support::{skipped, temp_dir, write_files};

/// Shows what an application finds of the client and its path.
const APP: &str = r#"
def application(environ, start_response):
    names = ["PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "HTTP_HOST", "wsgi.url_scheme", "HTTP_X_FORWARDED_FOR",
             "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_PORT", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP", "HTTP_X_OWN"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr({name: environ.get(name) for name in names}).encode()]
"#;

/// The locations of the site, in which `PORT` is gunicorn's.
const LOCATIONS: &str = "\
    proxy_set_header Host $http_host;\n\
    location / { proxy_pass http://127.0.0.1:PORT; proxy_set_header Host $http_host;\n\
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n\
      proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Host $host; }\n\
    location /balanced/ { proxy_pass http://127.0.0.1:PORT; proxy_set_header Host $http_host;\n\
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;\n\
      proxy_set_header X-Forwarded-Port 443; proxy_set_header X-Own a; }\n\
    location /same/ { proxy_pass http://127.0.0.1:PORT/same/; }\n\
    location = /health { proxy_pass http://127.0.0.1:PORT/health; }\n";

#[test]
fn an_application_finds_what_nginx_would_have_sent_to_gunicorn() {
    let Some(gunicorn) = program("peers", "gunicorn") else {
        return;
    };
    let dir = temp_dir();
    let conf = "bind = '127.0.0.1:0'\nwsgi_app = 'mysite'\n";
    write_files(
        dir.path(),
        &[("mysite.py", APP), ("gunicorn.conf.py", conf)],
    );
    let file = dir.path().join("gunicorn.conf.py");
    let mut command = Command::new(&gunicorn);
    command
        .args(["--no-control-socket", "--chdir"])
        .arg(dir.path());
    command.arg("-c").arg(&file);
    let real = Behind::start(&mut command, temp_dir(), "Listening at: ");
    let listening = real.output.wait_for("Listening at: ");
    let (_, port) = listening
        .split_once("http://127.0.0.1:")
        .expect("an address");
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let locations = LOCATIONS.replace("PORT", &port);
    let nginx = match Nginx::with_servers(&format!("server {{ listen LISTEN;\n{locations} }}")) {
        Ok(nginx) => nginx,
        Err(why) => return skipped("the comparison with nginx and gunicorn", &why),
    };
    let site = format!("server {{ listen 127.0.0.1:0;\n{locations} }}\n");
    let conf = conf.replace(":0'", &format!(":{port}'"));
    write_files(
        dir.path(),
        &[("site.conf", &*site), ("gunicorn.conf.py", &*conf)],
    );
    let ours = Pyserve::new()
        .current_dir(dir.path())
        .args(["--nginx", "site.conf", "--gunicorn", "gunicorn.conf.py"])
        .ready();
    let claims = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Host: evil\r\n\
                  X-Real-IP: 7.7.7.7\r\n";
    for path in [
        "/",
        "/a?b=c",
        "/balanced/x",
        "/same/x/../y",
        "/health",
        "/health?a",
    ] {
        for fields in ["", claims] {
            // Those that nginx passes on as they come are left out here from clients that are not trusted.
            if !fields.is_empty() && !["/", "/a?b=c"].contains(&path) {
                continue;
            }
            let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
            let (mut theirs, mut mine) = (nginx.connect(), ours.connect());
            theirs.send(&*request);
            mine.send(&*request);
            let (mut theirs, mine) = (theirs.response().text(), mine.response().text());
            // nginx passes a port on that no line names; clients of this one come by a Unix socket.
            theirs = theirs
                .replace(
                    "'HTTP_X_FORWARDED_PORT': '1'",
                    "'HTTP_X_FORWARDED_PORT': None",
                )
                .replace("'unix:'", "'127.0.0.1'");
            assert_eq!(mine, theirs, "{request}");
        }
    }
}
