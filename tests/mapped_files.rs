//! Pages of files that only the start needs: code of the binary, and of what the import loads.

use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::server::Pyserve;
use crate::support::write_files;

/// Answers with the resident pages of files, in KiB: of this process and of the front at the import,
/// and of the template and of the front now.
const APP: &str = "
import os, ssl, sqlite3, decimal, email.message, xml.dom.minidom
def mapped(pid):
    with open(f'/proc/{pid}/status') as status:
        return next(int(line.split()[1]) for line in status if line.startswith('RssFile:'))
FRONT = os.getppid()
AT_IMPORT = mapped('self'), mapped(FRONT)
def app(environ, start_response):
    start_response('200 OK', [])
    return ['{} {} {} {}'.format(*AT_IMPORT, mapped(os.getppid()), mapped(FRONT)).encode()]
";

#[test]
fn front_and_template_unmap_files_that_only_the_start_needs() {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    write_files(&dir, &[("app.py", APP)]);
    let server = builder
        .current_dir(dir)
        .args(["--app", "app.py", "--workers", "2", "--preload", "yes"])
        .ready();
    // The front does it beside its first requests.
    let began = Instant::now();
    loop {
        let text = server.get("/").text();
        let pages: Vec<u64> = text.split(' ').map(|size| size.parse().unwrap()).collect();
        let [import, start, template, front] = pages[..] else {
            panic!("{text}");
        };
        if template < import / 2 && front < start * 3 / 4 {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
