//! `X-Accel-Redirect` and `X-Sendfile`: the application decides, the front sends the file.

use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, request};
use crate::support::temp_dir;

struct Site {
    server: Server,
    dir: tempfile::TempDir,
}

fn site() -> Site {
    let dir = temp_dir();
    for (name, content) in [
        ("files/report one.txt", "0123456789"),
        ("files/report one.txt.gz", "an upload beside it"),
        ("files/.hidden", "shown all the same"),
        ("secret.txt", "nobody may have this"),
    ] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let internal = format!("/protected={}", dir.path().join("files").display());
    let server = Pyserve::app("redirects.py")
        .args(["--internal", &internal])
        .ready();
    Site { server, dir }
}

impl Site {
    fn accel(&self, to: &str, more: &str) -> Response {
        let target = format!("/?field=X-Accel-Redirect&to={to}");
        self.server.exchange(&request("GET", &target, more))
    }

    fn sendfile(&self, path: &str) -> Response {
        self.server.get(&format!(
            "/?field=X-Sendfile&to={}/{path}",
            self.dir.path().display()
        ))
    }
}

#[test]
fn a_range_is_one_of_the_file_and_no_neighbour_stands_in_for_it() {
    let site = site();
    let file = "/protected/report%2520one.txt";
    for (lines, text) in [("", "0123456789"), ("Range: bytes=2-4\r\n", "234")] {
        let response = site.accel(file, &format!("Accept-Encoding: gzip, br\r\n{lines}"));
        assert_eq!(response.text(), text, "{lines:?}");
        assert_eq!(response.header("Content-Encoding"), None, "{lines:?}");
    }
}

#[test]
fn a_file_comes_in_place_of_the_body_with_what_the_application_said() {
    let site = site();
    for response in [
        site.accel("/protected/report%2520one.txt", ""),
        site.sendfile("files/report%20one.txt"),
    ] {
        assert_eq!(response.status(), 200);
        assert_eq!(response.text(), "0123456789");
        assert_eq!(response.header("Content-Type").unwrap(), "application/pdf");
        assert_eq!(response.header("Content-Length").unwrap(), "10");
        assert_eq!(response.header("Set-Cookie").unwrap(), "seen=1");
        assert!(response.header("Content-Disposition").is_some());
        assert!(response.header("ETag").is_some());
        for absent in ["X-Accel-Redirect", "X-Sendfile", "Cache-Control"] {
            assert_eq!(response.header(absent), None);
        }
    }
    assert_eq!(site.sendfile("files/.hidden").text(), "shown all the same");
}

#[test]
fn ranges_and_conditions_work_for_it() {
    let site = site();
    let to = "/protected/report%2520one.txt";
    let part = site.accel(to, "Range: bytes=2-4\r\n");
    assert_eq!((part.status(), part.text()), (206, "234".to_owned()));
    let tag = part.header("ETag").expect("a validator");
    let known = site.accel(to, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(known.status(), 304);
}

#[test]
fn nothing_outside_of_internal_locations_is_sent() {
    let site = site();
    for response in [
        site.accel("/elsewhere/x", ""),
        site.accel("/protected/../secret.txt", ""),
        site.accel("/protected/%252e%252e/secret.txt", ""),
        site.accel("/protectedsecret.txt", ""),
        site.accel("/protected/none.txt", ""),
        site.sendfile("secret.txt"),
        site.sendfile("files/../secret.txt"),
    ] {
        assert_eq!(response.status(), 404, "{response:?}");
        assert!(!response.text().contains("nobody"), "{response:?}");
    }
    site.server.stderr.wait_for("--internal");
}

#[test]
fn no_client_reaches_an_internal_location() {
    let site = site();
    let response = site
        .server
        .get("/protected/report%20one.txt?field=X-Other&to=x");
    assert_eq!(response.text(), "not this", "the application is asked");
}

#[test]
fn without_internal_locations_the_field_is_for_somebody_else() {
    let server = Pyserve::app("redirects.py").ready();
    let response = server.get("/?field=X-Accel-Redirect&to=/protected/x");
    assert_eq!(response.header("X-Accel-Redirect").unwrap(), "/protected/x");
    assert_eq!(response.text(), "not this");
}
