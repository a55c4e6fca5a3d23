//! Requests in, responses out, over a directory made for each test.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;

use super::*;
use crate::config::StaticLocation;

struct Site {
    dir: tempfile::TempDir,
    files: StaticFiles,
}

impl Site {
    /// Every request looks at the disk.
    fn new() -> Self {
        let settings = StaticSettings {
            check: Duration::ZERO,
            ..StaticSettings::default()
        };
        Self::with(settings, |_| {})
    }

    fn with(settings: StaticSettings, change: impl FnOnce(&mut StaticLocation)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("static/docs/deep")).unwrap();
        fs::write(dir.path().join("secret.txt"), "outside").unwrap();
        let mut location = StaticLocation::new("/static", dir.path().join("static"));
        change(&mut location);
        let locations = Locations::new([location]).unwrap();
        let site = Self {
            files: StaticFiles::new(
                locations,
                settings.clone(),
                FilePool::new(2),
                &Cache::new(&settings),
            ),
            dir,
        };
        site.write("style.css", b"body {}");
        site.write("docs/index.html", b"<p>index");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("static").join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    async fn etag(&self, name: &str) -> String {
        let response = self.get(&format!("/static/{name}")).await.unwrap();
        field(&response, header::ETAG).to_owned()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        fields: &[(HeaderName, &str)],
    ) -> Result<Response<Content>, StaticError> {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let (location, rest) = self
            .files
            .find(path, RequestedOrigin::ANY)
            .expect("belongs to the location");
        self.files.serve(location, rest, &method, &headers).await
    }

    async fn get(&self, path: &str) -> Result<Response<Content>, StaticError> {
        self.ask(Method::GET, path, &[]).await
    }
}

async fn read(content: Content) -> io::Result<Vec<u8>> {
    match content {
        Content::Empty => Ok(Vec::new()),
        Content::Bytes(bytes) => Ok(bytes.to_vec()),
        Content::File(body) => Ok(body.collect().await?.to_bytes().to_vec()),
        Content::Parts(body) => Ok(body.collect().await?.to_bytes().to_vec()),
    }
}

fn field(response: &Response<Content>, name: HeaderName) -> &str {
    response.headers()[name].to_str().unwrap()
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 3) as u8).collect()
}

#[tokio::test]
async fn a_small_file_comes_whole_with_type_length_and_validators() {
    let site = Site::new();
    let modified = UNIX_EPOCH + Duration::new(784_111_777, 5);
    let file = File::open(site.path("style.css")).unwrap();
    file.set_modified(modified).unwrap();
    let response = site.get("/static/style.css?v=1").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        field(&response, header::CONTENT_TYPE),
        "text/css; charset=utf-8"
    );
    assert_eq!(field(&response, header::CONTENT_LENGTH), "7");
    assert_eq!(
        field(&response, header::LAST_MODIFIED),
        "Sun, 06 Nov 1994 08:49:37 GMT"
    );
    assert_eq!(field(&response, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert!(field(&response, header::ETAG).starts_with("\"7-"));
    let Content::Bytes(bytes) = response.into_body() else {
        panic!("a small file is read at once");
    };
    assert_eq!(bytes, "body {}");
}

#[tokio::test]
async fn every_length_is_delivered_to_the_byte() {
    let site = Site::new();
    let kib = 1024;
    for length in [
        0,
        1,
        64 * kib,
        64 * kib + 1,
        128 * kib - 1,
        128 * kib,
        128 * kib + 1,
        1_000_003,
    ] {
        let content = numbered(length);
        site.write("file.bin", &content);
        let response = site.get("/static/file.bin").await.unwrap();
        assert_eq!(field(&response, header::CONTENT_LENGTH), length.to_string());
        if let Content::File(body) = response.body() {
            assert_eq!(body.size_hint().exact(), Some(length as u64));
        }
        assert!(
            read(response.into_body()).await.unwrap() == content,
            "{length}"
        );
    }
}

#[tokio::test]
async fn head_says_what_get_would_without_a_body() {
    let site = Site::new();
    site.write("large.bin", &numbered(300_000));
    for path in ["/static/style.css", "/static/large.bin", "/static/docs/"] {
        let get = site.get(path).await.unwrap();
        let head = site.ask(Method::HEAD, path, &[]).await.unwrap();
        assert_eq!(head.status(), get.status());
        assert_eq!(head.headers(), get.headers());
        assert!(matches!(head.into_body(), Content::Empty));
    }
}

#[tokio::test]
async fn other_methods_never_reach_the_file_system() {
    let site = Site::new();
    for method in ["POST", "PUT", "DELETE", "PATCH", "COPY", "MOVE", "TRACE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in ["/static/style.css", "/static/none", "/static/%00"] {
            let outcome = site.ask(method.clone(), path, &[]).await;
            assert!(matches!(outcome, Err(StaticError::MethodNotAllowed)));
        }
    }
    let response = site
        .ask(Method::OPTIONS, "/static/none", &[])
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(field(&response, header::ALLOW), "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn a_copy_that_still_stands_is_304_without_a_body() {
    let site = Site::new();
    let full = site.get("/static/style.css").await.unwrap();
    let etag = field(&full, header::ETAG);
    let date = field(&full, header::LAST_MODIFIED);
    for fields in [
        [(header::IF_NONE_MATCH, etag)],
        [(header::IF_MODIFIED_SINCE, date)],
    ] {
        for method in [Method::GET, Method::HEAD] {
            let response = site
                .ask(method, "/static/style.css", &fields)
                .await
                .unwrap();
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(field(&response, header::ETAG), etag);
            assert_eq!(field(&response, header::LAST_MODIFIED), date);
            assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
            assert!(matches!(response.into_body(), Content::Empty));
        }
    }
    let stale = [(header::IF_MATCH, "\"another\"")];
    let outcome = site.ask(Method::GET, "/static/style.css", &stale).await;
    assert!(matches!(outcome, Err(StaticError::PreconditionFailed)));
}

#[tokio::test]
async fn a_change_within_one_second_and_of_equal_length_changes_the_etag() {
    let site = Site::new();
    for (name, padding) in [("small.css", 0), ("large.css", 100_000)] {
        let write = |first: &[u8], nanos| {
            // A new file each time, of equal length, that takes the name.
            site.write("new.css", &[first, &vec![b' '; padding]].concat());
            let file = File::open(site.path("new.css")).unwrap();
            let time = UNIX_EPOCH + Duration::new(1_700_000_000, nanos);
            file.set_modified(time).unwrap();
            fs::rename(site.path("new.css"), site.path(name)).unwrap();
        };
        write(b"body {}", 1);
        let first = site.etag(name).await;
        assert_eq!(site.etag(name).await, first);
        write(b"BODY {}", 2);
        let second = site.etag(name).await;
        assert_ne!(second, first);
        // With identical times, set explicitly.
        write(b"Body {}", 2);
        assert_ne!(site.etag(name).await, second);
    }
}

#[tokio::test]
async fn replicas_agree_about_the_etag() {
    let (one, other) = (Site::new(), Site::new());
    for (site, time) in [(&one, 1_700_000_000), (&other, 1_800_000_000)] {
        site.write("same.css", b"body {}");
        let file = File::open(site.path("same.css")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(time))
            .unwrap();
    }
    assert_eq!(one.etag("same.css").await, other.etag("same.css").await);
    let validators = |seconds, is_settled| {
        let file = tempfile::tempfile().unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
        conditional::Validators::of_state(&file.metadata().unwrap(), is_settled).etag
    };
    assert_eq!(
        validators(1_700_000_000, true),
        validators(1_700_000_000, true)
    );
    assert_ne!(validators(1_700_000_000, true), validators(1, true));
    // A time without meaning distinguishes no states: that of the change is added.
    for (seconds, is_settled, parts) in [
        (1_700_000_000, true, 2),
        (1_700_000_000, false, 4),
        (1, true, 4),
    ] {
        let etag = validators(seconds, is_settled);
        assert_eq!(etag.split('-').count(), parts, "{etag}");
    }
}

#[tokio::test]
async fn a_directory_is_its_index_behind_a_slash() {
    let site = Site::new();
    let response = site.get("/static/docs/").await.unwrap();
    assert_eq!(
        field(&response, header::CONTENT_TYPE),
        "text/html; charset=utf-8"
    );
    assert_eq!(read(response.into_body()).await.unwrap(), b"<p>index");
    for (path, expected) in [
        ("/static/docs", "/static/docs/"),
        ("/static/docs?a=/b&c", "/static/docs/?a=/b&c"),
        ("/%73tatic//d%6fcs", "/static/docs/"),
        ("/static%2fdocs", "/static/docs/"),
    ] {
        match site.get(path).await {
            Err(StaticError::RedirectToDirectory(url)) => assert_eq!(url, expected),
            other => panic!("{path}: {other:?}"),
        }
    }
    for path in [
        "/static",
        "/static/",
        "/static/docs/deep",
        "/static/docs/deep/",
    ] {
        assert!(
            matches!(site.get(path).await, Err(StaticError::NotFound)),
            "{path}"
        );
    }
    site.write("index.html", b"top");
    let top = site.get("/static").await;
    assert!(matches!(top, Err(StaticError::RedirectToDirectory(url)) if url == "/static/"));
}

#[tokio::test]
async fn whatever_is_not_a_public_regular_file_is_not_found() {
    let site = Site::new();
    for name in [".env", "settings.py", "cache.PYC", "db.sqlite3"] {
        site.write(name, b"private");
    }
    fs::create_dir(site.path(".git")).unwrap();
    site.write(".git/config", b"private");
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, site.path("fifo"), fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(site.path("socket")).unwrap();
    fs::create_dir(site.path("odd")).unwrap();
    fs::rename(site.path("fifo"), site.path("odd/index.html")).unwrap();
    symlink("odd/index.html", site.path("fifo")).unwrap();
    symlink("../secret.txt", site.path("link.txt")).unwrap();
    symlink(
        site.dir.path().join("secret.txt"),
        site.path("absolute.txt"),
    )
    .unwrap();
    symlink("/dev/null", site.path("null")).unwrap();
    symlink("/proc/self/environ", site.path("environ")).unwrap();
    let long = format!("/static/{}", "x".repeat(5_000));
    for path in [
        "/static/none",
        "/static/style.css/",
        "/static/style.css/x",
        "/static/.env",
        "/static/settings.py",
        "/static/cache.PYC",
        "/static/db.sqlite3",
        "/static/.git/config",
        "/static/fifo",
        "/static/odd",
        "/static/odd/",
        "/static/socket",
        "/static/link.txt",
        "/static/absolute.txt",
        "/static/null",
        "/static/environ",
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt",
        "/static/docs/../../secret.txt",
        "/static/..%5csecret.txt",
        "/static/%c0%ae%c0%ae/secret.txt",
        "/static/%252e%252e/secret.txt",
        &long,
    ] {
        assert!(
            matches!(site.get(path).await, Err(StaticError::NotFound)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn names_of_all_kinds_are_found() {
    let site = Site::new();
    for (name, path) in [
        ("a b.txt", "/static/a%20b.txt"),
        ("é.txt", "/static/%C3%A9.txt"),
        ("100%.txt", "/static/100%25.txt"),
        ("a+b.txt", "/static/a+b.txt"),
        ("line\nbreak.txt", "/static/line%0Abreak.txt"),
        ("what?.txt", "/static/what%3F.txt"),
        ("%2e%2e", "/static/%252e%252e"),
    ] {
        site.write(name, name.as_bytes());
        let response = site.get(path).await.unwrap();
        assert_eq!(read(response.into_body()).await.unwrap(), name.as_bytes());
    }
}

#[tokio::test]
async fn a_location_without_its_directory_is_empty_and_a_new_directory_is_seen() {
    let site = Site::new();
    fs::rename(site.path(""), site.dir.path().join("old")).unwrap();
    let gone = site.get("/static/style.css").await;
    assert!(matches!(gone, Err(StaticError::NotFound)));
    fs::create_dir(site.path("")).unwrap();
    site.write("style.css", b"new");
    let response = site.get("/static/style.css").await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), b"new");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_breaks_the_transfer() {
    let site = Site::new();
    site.write("large.bin", &numbered(400_000));
    let response = site.get("/static/large.bin").await.unwrap();
    let Content::File(mut body) = response.into_body() else {
        panic!("a large file is read while it is sent");
    };
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, numbered(128 * 1024));
    let file = File::options()
        .write(true)
        .open(site.path("large.bin"))
        .unwrap();
    file.set_len(200_000).unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_file_that_grows_or_is_replaced_meanwhile_is_sent_as_promised() {
    let site = Site::new();
    let content = numbered(400_000);
    site.write("large.bin", &content);
    let growing = site.get("/static/large.bin").await.unwrap();
    let mut longer = content.clone();
    longer.extend(b"more");
    site.write("large.bin", &longer);
    assert!(read(growing.into_body()).await.unwrap() == content);

    let replaced = site.get("/static/large.bin").await.unwrap();
    fs::remove_file(site.path("large.bin")).unwrap();
    site.write("large.bin", b"another file");
    assert!(read(replaced.into_body()).await.unwrap() == longer);
}
