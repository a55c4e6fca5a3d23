//! Pages for errors, `internal`, and fields of requests and responses beside the real nginx, with the
//! parts of responses that `nginx_differential.rs` leaves out: bodies of errors, and all fields.

use std::path::Path;

use super::nginx_differential::{FILES, ask, mirror, started};
use crate::support::nginx::Nginx;
use crate::support::raw::Response;
use crate::support::server::Server;
use crate::support::{skipped, temp_dir, write_files};

/// Both servers with the same file.
struct Pair {
    nginx: Nginx,
    ours: Server,
    dir: tempfile::TempDir,
}

impl Pair {
    /// Starts both; `DIR`, `BACKEND` and `LISTEN` as in `nginx_differential.rs`.
    fn start(text: &str, backend: Option<&Path>) -> Option<Self> {
        let dir = temp_dir();
        write_files(dir.path(), FILES);
        let backend = backend.map(|path| path.display().to_string());
        let text = text
            .replace("DIR", &dir.path().display().to_string())
            .replace("BACKEND", &backend.unwrap_or_default());
        let nginx = match Nginx::with_servers(&text) {
            Ok(nginx) => nginx,
            Err(why) => {
                skipped("the comparison with nginx", &why);
                return None;
            }
        };
        let file = dir.path().join("nginx.conf");
        let text = text.replace("LISTEN", "127.0.0.1:0");
        std::fs::write(&file, format!("events {{}}\nhttp {{\n{text}\n}}\n")).unwrap();
        let args = ["--nginx".into(), file.display().to_string()];
        let ours = started(dir.path(), &args, None);
        Some(Self { nginx, ours, dir })
    }

    /// The responses of both to the bytes of a request.
    fn responses(&self, request: &str) -> [Response; 2] {
        let (mut theirs, mut ours) = (self.nginx.connect(), self.ours.connect());
        theirs.send(request);
        ours.send(request);
        [theirs.response(), ours.response()]
    }

    /// Compares what `part` takes of the responses to requests as [`ask`] takes them.
    fn agree(&self, requests: &[&str], part: impl Fn(&Response) -> String) {
        let mut wrong = Vec::new();
        for request in requests {
            let [theirs, ours] = self.responses(&ask(request)).map(|one| part(&one));
            if theirs != ours {
                wrong.push(format!("{request}\n  nginx   {theirs}\n  pyserve {ours}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The status, the media type and the body.
fn page(response: &Response) -> String {
    let media_type = response.headers("Content-Type");
    format!("{} {media_type:?} {}", response.status(), response.text())
}

/// A variable of the environ that the mirror shows; empty for none.
fn variable(response: &Response, name: &str) -> String {
    let shown: serde_json::Value = serde_json::from_str(&response.text()).expect("JSON");
    let value = &shown["environ"][name];
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn texts_that_locations_return_are_pages_for_errors_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "default_type text/plain;\nserver {\n listen LISTEN;\n root DIR/www;\n\
        error_page 500 /error; error_page 502 503 504 /50x; error_page 404 = @none; error_page 403 =410 /gone;\n\
        proxy_intercept_errors on;\n\
        location / { proxy_pass http://unix:BACKEND; }\n\
        location /passed/ { proxy_intercept_errors off; proxy_pass http://unix:BACKEND:/; }\n\
        location /files/ { alias DIR/www/; }\n\
        location /down/ { proxy_pass http://unix:DIR/none; }\n\
        location /closed/ { deny all; }\n\
        location = /refused { return 404; }\n\
        location = /error { internal; default_type text/html; return 500 '<h1>100% wrong</h1>\n'; }\n\
        location = /50x { internal; default_type application/json; return 503 '{\"error\":\"down\"}'; }\n\
        location = /gone { return 200 'gone '; }\n\
        location @none { default_type application/json; return 404 '{\"error\":\"none\"}'; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    let requests = [
        "/status/500",
        "/status/502",
        "/status/404",
        "/status/403",
        "/passed/status/500",
        "/files/none.txt",
        "/down/x",
        "/closed/x",
        "/refused",
        "/gone",
        "/error",
        "/50x",
    ];
    pair.agree(&requests, page);
}

#[test]
fn internal_locations_are_closed_to_clients_whatever_stands_in_them() {
    let text = "default_type text/plain;\nserver {\n listen LISTEN;\n\
        location / { return 200 all; }\n\
        location /text/ { internal; return 200 text; }\n\
        location /moved/ { internal; return 301 /other; }\n\
        location /refused/ { internal; deny all; root DIR/www; }\n\
        location /outer/ { internal; location /outer/inner/ { return 200 inner; } }\n\
        location /status/ { internal; stub_status; }\n\
        location /missing/ { internal; root DIR/none; try_files $uri @all; }\n\
        location @all { internal; return 200 named; }\n\
        location /named/ { root DIR/none; try_files $uri @all; }\n}";
    let Some(pair) = Pair::start(text, None) else {
        return;
    };
    let requests = [
        "/text/x",
        "/moved/x",
        "/refused/x",
        "/outer/x",
        "/outer/inner/x",
        "/status/x",
        "/missing/x",
        "/named/x",
        "/x",
    ];
    pair.agree(&requests, |response| {
        let body = match response.status() {
            200 => response.text(),
            _ => String::new(),
        };
        format!("{} {body}", response.status())
    });
}

#[test]
fn the_first_name_of_a_server_is_sent_whatever_host_is_asked_for() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "server {\n listen LISTEN;\n server_name .First.test second.test;\n\
        location / { proxy_pass http://unix:BACKEND; proxy_set_header Host $host;\n\
          proxy_set_header X-Forwarded-Host $server_name; proxy_set_header X-Name $server_name;\n\
          add_header X-Site $server_name; }\n\
        location /to/ { return 301 https://$server_name$request_uri; }\n}\n\
        server {\n listen LISTEN;\n server_name _ third.test;\n\
        location / { proxy_pass http://unix:BACKEND; proxy_set_header X-Forwarded-Host $server_name; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    let requests = [
        "second.test/x",
        "first.test/x",
        "other.test/x",
        "third.test/x",
    ];
    pair.agree(&requests, |response| {
        let names = ["HTTP_X_FORWARDED_HOST", "HTTP_X_NAME"].map(|name| variable(response, name));
        format!("{names:?} {:?}", response.headers("X-Site"))
    });
    let nameless = "server {\n listen LISTEN;\n\
        location / { proxy_pass http://unix:BACKEND; proxy_set_header Host $host;\n\
          proxy_set_header X-Forwarded-Host $server_name; }\n}";
    let Some(without) = Pair::start(nameless, Some(&behind.socket())) else {
        return;
    };
    without.agree(&["second.test/x"], |response| {
        variable(response, "HTTP_X_FORWARDED_HOST")
    });
    pair.agree(&["second.test/to/x", "other.test/to/x"], |response| {
        format!("{:?}", response.headers("Location"))
    });
}

#[test]
fn upgrades_pass_where_the_lines_of_nginx_pass_them() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n\
        server {\n listen LISTEN;\n proxy_http_version 1.1;\n\
        location /close/ { proxy_pass http://unix:BACKEND; proxy_set_header Connection 'close'; }\n\
        location /kept/ { proxy_pass http://unix:BACKEND; proxy_set_header Connection ''; }\n\
        location /half/ { proxy_pass http://unix:BACKEND; proxy_set_header Connection upgrade; }\n\
        location /empty/ { proxy_pass http://unix:BACKEND; proxy_set_header Connection upgrade; proxy_set_header Upgrade ''; }\n\
        location /map/ { proxy_pass http://unix:BACKEND; proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade; }\n\
        location /ws/ { proxy_pass http://unix:BACKEND; proxy_set_header Connection \"Upgrade\"; proxy_set_header Upgrade $http_upgrade; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    for place in ["close", "kept", "half", "empty", "map", "ws"] {
        let request = format!(
            "GET /{place}/x HTTP/1.1\r\nHost: site.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        let asked = pair
            .responses(&request)
            .map(|response| variable(&response, "HTTP_UPGRADE"));
        let expected = if ["map", "ws"].contains(&place) {
            "websocket"
        } else {
            ""
        };
        assert_eq!(asked, [expected, expected], "{place}");
    }
}

#[test]
fn variables_without_a_value_remove_fields_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "server {\n listen LISTEN;\n\
        location / { proxy_pass http://unix:BACKEND; proxy_set_header X-Real-IP $proxy_protocol_addr;\n\
          proxy_set_header X-Forwarded-For $proxy_protocol_addr;\n\
          proxy_set_header X-Client-DN $ssl_client_s_dn; proxy_set_header X-Cipher $ssl_cipher;\n\
          add_header X-Fingerprint $ssl_client_fingerprint; add_header X-Scheme $scheme; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    let request = "GET / HTTP/1.1\r\nHost: site.test\r\nX-Client-DN: CN=admin\r\nX-Cipher: x\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    let [theirs, ours] = pair.responses(request).map(|response| {
        let names = [
            "HTTP_X_REAL_IP",
            "HTTP_X_FORWARDED_FOR",
            "HTTP_X_CLIENT_DN",
            "HTTP_X_CIPHER",
        ];
        let names = names.map(|name| variable(&response, name));
        let fields = ["X-Fingerprint", "X-Scheme"].map(|name| response.headers(name));
        (names, fields)
    });
    assert_eq!(theirs, ours);
}

#[test]
fn ages_of_expires_are_nginx_s() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let mut text = "types { text/plain txt; }\nserver {\n listen LISTEN;\n".to_owned();
    let ages = ["max", "epoch", "off", "10y", "1h", "-1", "0"];
    for (number, age) in ages.iter().enumerate() {
        text += &format!(
            "location /f{number}/ {{ alias DIR/www/media/; expires {age}; }}\n\
             location /p{number}/ {{ proxy_pass http://unix:BACKEND; expires {age}; }}\n"
        );
    }
    text += "location /both/ { alias DIR/www/media/; expires max; add_header Cache-Control public; }\n}";
    let Some(pair) = Pair::start(&text, Some(&behind.socket())) else {
        return;
    };
    let fields = |response: &Response| {
        let ages = response.headers("Cache-Control").join(", ");
        let expires = response.headers("Expires");
        // Beside a maximum age that begins with the response, `Expires` says the same again.
        let fixed = expires
            .iter()
            .filter(|time| time.ends_with("1970 00:00:01 GMT") || time.contains(" 2037 "));
        format!("{ages} {:?}", fixed.collect::<Vec<_>>())
    };
    let paths: Vec<_> = (0..ages.len())
        .map(|number| format!("/p{number}/b.txt"))
        .collect();
    let mut paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    paths.extend([
        "/f0/b.txt",
        "/f1/b.txt",
        "/f3/b.txt",
        "/f5/b.txt",
        "/both/b.txt",
    ]);
    pair.agree(&paths, fields);
    // A file may be kept by every cache, and a maximum age of 0 is a question each time.
    for (path, expected) in [
        ("/f4/b.txt", "public, max-age=3600 []"),
        ("/f6/b.txt", "no-cache []"),
    ] {
        let [_, ours] = pair.responses(&ask(path));
        assert_eq!(fields(&ours), expected, "{path}");
    }
}

#[test]
fn fields_of_a_server_are_on_all_of_its_responses() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "server {\n listen LISTEN;\n server_name site.test;\n root DIR/none;\n add_header X-Always one always; add_header X-Usual two;\n\
        location /app { proxy_pass http://unix:BACKEND; }\n\
        location /api/ { proxy_pass http://unix:BACKEND; }\n\
        location /down { proxy_pass http://unix:DIR/none; }\n\
        location /closed/ { deny all; }\n\
        location /hidden/ { internal; alias DIR/www/; }\n\
        location /moved/ { return 301 /app; }\n\
        location /files/ { alias DIR/www/; }\n}\n\
        server {\n listen LISTEN;\n server_name other.test;\n add_header X-Always three always;\n\
        location /app { return 200 x; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    let requests = [
        "/app",
        "/none",
        "/api",
        "/api/x",
        "/down",
        "/closed/x",
        "/hidden/about.html",
        "/moved/x",
        "/files/none",
        "/files/static/sub",
        "/files/about.html",
        "POST /files/about.html",
        "other.test/app",
        "other.test/none",
    ];
    pair.agree(&requests, |response| {
        let fields = ["X-Always", "X-Usual"].map(|name| response.headers(name));
        format!("{} {fields:?}", response.status())
    });
}

#[test]
fn directories_that_are_made_later_are_served_as_by_nginx() {
    let text = "types { text/plain txt; }\n\
                server {\n listen LISTEN;\n\
                location / { return 200 other; }\n\
                location /media/ { alias DIR/later/media/; }\n\
                location /static/ { root DIR/later; }\n\
                location = /one.txt { alias DIR/later/one.txt; }\n}";
    let Some(pair) = Pair::start(text, None) else {
        return;
    };
    let requests = ["/media/a.txt", "/static/b.txt", "/one.txt", "/x"];
    let seen = |response: &Response| format!("{} {}", response.status(), body_of_200(response));
    pair.agree(&requests, seen);
    write_files(
        pair.dir.path(),
        &[
            ("later/media/a.txt", "a"),
            ("later/static/b.txt", "b"),
            ("later/one.txt", "one"),
        ],
    );
    for request in requests {
        let [theirs, _] = pair.responses(&ask(request));
        assert_eq!(theirs.status(), 200, "{request}");
    }
    pair.agree(&requests, seen);
}

#[test]
fn a_prefix_without_its_directory_leaves_the_path_without_the_slash_to_others_as_in_nginx() {
    let text = "types { text/plain txt; }\nserver {\n listen LISTEN;\n root DIR/none;\n\
                location / { return 200 other; }\n\
                location /x/ { expires 1d; }\n\
                location /y/ { alias DIR/none/y/; }\n}";
    let Some(pair) = Pair::start(text, None) else {
        return;
    };
    let seen = |response: &Response| format!("{} {}", response.status(), body_of_200(response));
    pair.agree(&["/x", "/x/a", "/y", "/y/a", "/z"], seen);
}

/// The body of a file; the pages of errors are each server's own.
fn body_of_200(response: &Response) -> String {
    match response.status() {
        200 => response.text(),
        _ => String::new(),
    }
}

#[test]
fn bodies_that_try_files_passes_on_have_the_limit_of_the_path_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "server {\n listen LISTEN;\n root DIR/www;\n client_max_body_size 1k;\n\
        location / { client_max_body_size 5k; try_files $uri @app; }\n\
        location /one/ { try_files $uri @large; }\n\
        location @app { proxy_pass http://unix:BACKEND; }\n\
        location @large { client_max_body_size 5k; proxy_pass http://unix:BACKEND; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    for (path, expected) in [("/none", 200), ("/one/none", 413)] {
        let body = "x".repeat(2000);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: site.test\r\nContent-Length: 2000\r\n\r\n{body}"
        );
        let statuses = pair.responses(&request).map(|response| response.status());
        assert_eq!(statuses, [expected; 2], "{path}");
    }
}

#[test]
fn pages_of_a_location_replace_those_of_the_server_as_in_nginx() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "types { text/html html; }\nserver {\n listen LISTEN;\n root DIR/www;\n error_page 500 /about.html;\n\
        proxy_intercept_errors on;\n\
        location / { proxy_pass http://unix:BACKEND; }\n\
        location = /about.html { internal; }\n\
        location = /404.html { internal; }\n\
        location /own/ { error_page 404 =200 /404.html; proxy_pass http://unix:BACKEND:/; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    let is_page = |response: &Response| {
        let text = response.text();
        let page = ["about", "nothing"].map(|word| text.contains(&format!("<p>{word}</p>")));
        format!("{} {page:?}", response.status())
    };
    let requests = ["/status/500", "/own/status/500", "/own/status/404"];
    pair.agree(&requests, is_page);
}

#[test]
fn a_cache_control_beside_expires_is_the_only_other_one() {
    let text = "types { text/plain txt; }\nserver {\n listen LISTEN;\n\
        location / { alias DIR/www/media/; expires 30d; add_header Cache-Control private; }\n}";
    let Some(pair) = Pair::start(text, None) else {
        return;
    };
    pair.agree(&["/b.txt"], |response| {
        response.headers("Cache-Control").join(", ")
    });
}

#[test]
fn the_client_is_read_from_the_field_that_real_ip_header_names() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    for (lines, name) in [
        ("", "X-Real-IP"),
        ("real_ip_recursive on;", "X-Real-IP"),
        ("real_ip_header CF-Connecting-IP;", "CF-Connecting-IP"),
        ("real_ip_header X-Forwarded-For;", "X-Forwarded-For"),
    ] {
        let text = format!(
            "server {{\n listen LISTEN;\n set_real_ip_from 127.0.0.1;\n set_real_ip_from unix:;\n set_real_ip_from 10.0.0.0/8;\n {lines}\n\
             location / {{ proxy_pass http://unix:BACKEND; proxy_set_header X-Client $remote_addr;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}\n\
             location /one {{ proxy_pass http://unix:BACKEND; proxy_set_header X-Client $remote_addr;\n\
             proxy_set_header X-Forwarded-For $remote_addr; }}\n\
             location /none {{ proxy_pass http://unix:BACKEND; proxy_set_header X-Client $remote_addr;\n\
             proxy_set_header X-Forwarded-For \"\"; }}\n}}"
        );
        let Some(pair) = Pair::start(&text, Some(&behind.socket())) else {
            return;
        };
        for fields in [
            format!("{name}: 203.0.113.9\r\n"),
            format!("{name}: 2001:db8::9\r\n"),
            format!("{name}: 192.0.2.7, 10.1.2.3\r\n"),
            format!("{name}: 192.0.2.7 10.1.2.3 ,\r\n"),
            format!("{name}: 203.0.113.9:81\r\n"),
            format!("{name}: unknown\r\n"),
            format!("{name}: 192.0.2.7, unknown\r\n"),
            format!("{name}:\r\n"),
            String::new(),
            "X-Forwarded-For: 198.51.100.1\r\n".to_owned(),
            format!("{name}: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.1\r\n"),
            "X-Real-IP: 198.51.100.1\r\nForwarded: for=198.51.100.2\r\n".to_owned(),
        ] {
            // No list, and separated by nginx alone; `trust_header` reads it as nginx does.
            if name == "X-Forwarded-For" && fields.contains("7 10") {
                continue;
            }
            for path in ["/", "/one", "/none"] {
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{fields}\r\n"
                );
                let [theirs, ours] = pair.responses(&request).map(|response| {
                    // The real nginx listens on a Unix socket.
                    let value = |name| variable(&response, name).replace("unix:", "127.0.0.1");
                    ["HTTP_X_CLIENT", "HTTP_X_FORWARDED_FOR"].map(value)
                });
                assert_eq!(theirs, ours, "{lines} {path} {fields}");
            }
        }
    }
}

#[test]
fn expires_leaves_the_errors_of_a_server_as_they_are() {
    let Some(behind) = mirror(&["--http-socket"]) else {
        return;
    };
    let text = "server {\n listen LISTEN;\n add_header X-Always a always;\n add_header X-Usual b;\n\
                location / { proxy_pass http://unix:BACKEND; expires 1h; }\n\
                location /none/ { return 404; }\n}";
    let Some(pair) = Pair::start(text, Some(&behind.socket())) else {
        return;
    };
    let fields = |response: &Response| {
        let names = ["X-Always", "X-Usual", "Expires"];
        let shown = names.map(|name| match name {
            // nginx has one of its own with success.
            "Expires" if response.status() < 400 => String::new(),
            name => format!("{:?}", response.headers(name)),
        });
        format!("{} {shown:?}", response.status())
    };
    pair.agree(
        &["/", "/status/404", "/status/500", "/expired/404", "/none/x"],
        fields,
    );
    // An error before a location is found.
    let requests = [
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ];
    for request in requests {
        let [theirs, ours] = pair.responses(request).map(|response| fields(&response));
        assert_eq!(theirs, ours, "{request}");
    }
}

#[test]
fn files_have_the_codings_ranges_and_listings_of_their_locations() {
    let text = "types { text/css css; }\ndefault_type text/plain;\ngzip on;\ngzip_types text/css;\n\
                server {\n listen LISTEN;\n\
                location /a/ { alias DIR/www/static/; gzip off; max_ranges 0; }\n\
                location /b/ { alias DIR/www/static/; max_ranges 1; }\n\
                location /c/ { alias DIR/www/static/; autoindex on; autoindex_format json; }\n\
                location / { return 404; }\n}";
    let Some(pair) = Pair::start(text, None) else {
        return;
    };
    let big = pair.dir.path().join("www/static/big.css");
    std::fs::write(big, "a { b: c }\n".repeat(1000)).unwrap();
    let ask = |target: &str, field: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{field}\r\n\r\n"
        );
        pair.responses(&request)
    };
    for (target, ranges) in [
        ("/a/big.css", "bytes=0-3"),
        ("/b/big.css", "bytes=0-3"),
        ("/b/big.css", "bytes=0-3,8-9"),
        ("/b/big.css", "bytes=-5"),
    ] {
        let [theirs, ours] = ask(target, &format!("Range: {ranges}")).map(|response| {
            let fields = ["Accept-Ranges", "Content-Range"].map(|name| response.headers(name));
            (response.status(), fields, response.text())
        });
        assert_eq!(
            (theirs.0, &theirs.1[1], &theirs.2),
            (ours.0, &ours.1[1], &ours.2),
            "{target} {ranges}"
        );
        assert_eq!(ours.1[0].is_empty(), target.starts_with("/a/"), "{target}");
    }
    let coding = |target: &str| {
        ask(target, "Accept-Encoding: gzip")
            .map(|response| response.headers("Content-Encoding").len())
    };
    // Files are compressed in the background, once they are asked for.
    while coding("/b/big.css") != [1, 1] {}
    assert_eq!(coding("/a/big.css"), [0, 0]);
    let [theirs, ours] = ask("/c/", "Accept: text/html").map(|response| {
        let listed: serde_json::Value = serde_json::from_str(&response.text()).expect("JSON");
        listed
    });
    assert_eq!(theirs, ours);
}
