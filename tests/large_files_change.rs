//! Large files that change between two requests: the next response has the new state, however long
//! the server may use what it remembers. Each change is made on an ordinary file system, and on
//! overlay, on which the files of container images are.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get, request};
use crate::support::{is_root, skipped, temp_dir};

/// Longer than what is kept in memory.
const LENGTH: usize = 300_000;

/// A directory that is served at `/files`, and the server.
struct Site {
    server: Server,
    files: PathBuf,
    overlay: Option<Overlay>,
    dir: TempDir,
}

/// A mounted overlay. Dropping unmounts it.
struct Overlay(PathBuf);

impl Drop for Overlay {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Site {
    /// One site for each kind of file system; `plant` makes its first files, which on overlay are in
    /// the lower layer.
    fn all(plant: impl Fn(&Path)) -> Vec<Self> {
        let dir = temp_dir();
        let files = dir.path().join("files");
        fs::create_dir(&files).unwrap();
        plant(&files);
        let mut sites = vec![Self::over(dir, files, None)];
        sites.extend(Self::on_overlay(plant));
        sites
    }

    fn on_overlay(plant: impl Fn(&Path)) -> Option<Self> {
        if !is_root("files on overlay") {
            return None;
        }
        let dir = temp_dir();
        let [lower, upper, work, files] =
            ["lower", "upper", "work", "files"].map(|name| dir.path().join(name));
        for dir in [&lower, &upper, &work, &files] {
            fs::create_dir(dir).unwrap();
        }
        plant(&lower);
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&files);
        let mounted = mount.output();
        if !mounted.is_ok_and(|ended| ended.status.success()) {
            skipped("files on overlay", "it cannot be mounted here");
            return None;
        }
        let overlay = Overlay(files.clone());
        Some(Self::over(dir, files, Some(overlay)))
    }

    fn over(dir: TempDir, files: PathBuf, overlay: Option<Overlay>) -> Self {
        let linked = dir.path().join("linked");
        symlink(&files, &linked).unwrap();
        let server = Pyserve::new()
            .current_dir(dir.path())
            .args([format!("--static=/files={}", files.display())])
            .args([format!("--static=/linked={}", linked.display())])
            .args(["--static-check", "1h", "--static-precompressed", "no"])
            .listening();
        Self {
            server,
            files,
            overlay,
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    #[track_caller]
    fn check(&self, client: &mut Connection, target: &str, byte: u8, length: usize) -> String {
        let response = client.exchange(get(target));
        assert_eq!(response.status(), 200, "{target}");
        assert!(
            response.body == vec![byte; length],
            "{target} is in another state"
        );
        response.header("ETag").unwrap()
    }
}

fn write(path: &Path, byte: u8) {
    fs::write(path, vec![byte; LENGTH]).unwrap();
}

fn rename_over(path: &Path, byte: u8, length: usize) {
    let new = path.with_extension("new");
    fs::write(&new, vec![byte; length]).unwrap();
    fs::rename(new, path).unwrap();
}

/// Two requests in each state: the second one finds everything in memory.
#[test]
fn a_large_file_that_changes_is_seen_with_the_next_request() {
    for site in Site::all(|dir| write(&dir.join("a.bin"), b'0')) {
        let path = site.path("a.bin");
        let mut client = site.server.connect();
        let mut tags = Vec::new();
        let mut see = |byte, length| {
            let first = site.check(&mut client, "/files/a.bin", byte, length);
            assert_eq!(site.check(&mut client, "/files/a.bin", byte, length), first);
            tags.push(first);
        };
        see(b'0', LENGTH);
        rename_over(&path, b'1', LENGTH);
        see(b'1', LENGTH);
        rename_over(&path, b'2', LENGTH + 1);
        see(b'2', LENGTH + 1);
        // In place: shorter, longer, and other bytes of the same length.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(LENGTH as u64 - 7).unwrap();
        see(b'2', LENGTH - 7);
        file.write_all_at(&vec![b'3'; LENGTH + 9], 0).unwrap();
        see(b'3', LENGTH + 9);
        file.write_all_at(&vec![b'4'; LENGTH + 9], 0).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        see(b'4', LENGTH + 9);
        // A small one.
        rename_over(&path, b'5', 10);
        see(b'5', 10);
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 7, "each state has its own entity tag: {tags:?}");
    }
}

#[test]
fn a_large_file_that_is_removed_is_gone_with_the_next_request() {
    for site in Site::all(|dir| write(&dir.join("a.bin"), b'0')) {
        let path = site.path("a.bin");
        let mut client = site.server.connect();
        for byte in *b"012" {
            for _ in 0..2 {
                site.check(&mut client, "/files/a.bin", byte, LENGTH);
            }
            fs::remove_file(&path).unwrap();
            assert_eq!(client.exchange(get("/files/a.bin")).status(), 404);
            fs::create_dir(&path).unwrap();
            assert_eq!(client.exchange(get("/files/a.bin")).status(), 404);
            fs::remove_dir(&path).unwrap();
            write(&path, byte + 1);
        }
    }
}

/// The rights of the file, and those of a directory on the way.
#[test]
fn a_large_file_that_may_no_longer_be_read_is_forbidden_with_the_next_request() {
    if !is_root("files of another user") {
        return;
    }
    let dir = temp_dir();
    let files = dir.path().join("files");
    fs::create_dir_all(files.join("below")).unwrap();
    write(&files.join("below/a.bin"), b'0');
    let open = Permissions::from_mode(0o755);
    for path in [dir.path(), &files, &files.join("below")] {
        fs::set_permissions(path, open.clone()).unwrap();
    }
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args([format!("--static=/files={}", files.display())])
        .args(["--static-check", "1h", "--uid", "65534", "--gid", "65534"])
        .listening();
    let mut client = server.connect();
    let mut status = || client.exchange(get("/files/below/a.bin")).status();
    for (path, mode) in [("below/a.bin", 0o600), ("below", 0o700), ("below", 0o600)] {
        let path = files.join(path);
        assert_eq!([status(), status()], [200, 200]);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(status(), 403, "{mode:o} for {}", path.display());
        fs::set_permissions(&path, open.clone()).unwrap();
    }
}

/// A deployment that renames directories or switches a link: in the tree, and the root itself.
#[test]
fn a_switched_directory_or_link_is_seen_with_the_next_request() {
    let plant = |dir: &Path| {
        for (release, byte) in [("one", b'1'), ("two", b'2')] {
            fs::create_dir(dir.join(release)).unwrap();
            write(&dir.join(release).join("a.bin"), byte);
        }
        symlink("one", dir.join("current")).unwrap();
    };
    for site in Site::all(plant) {
        let mut client = site.server.connect();
        let linked = site.dir.path().join("linked");
        for (release, byte) in [("one", b'1'), ("two", b'2'), ("one", b'1')] {
            for link in [site.path("current"), linked.clone()] {
                let new = link.with_extension("new");
                symlink(site.path(release), &new).unwrap();
                fs::rename(new, link).unwrap();
            }
            for _ in 0..2 {
                site.check(&mut client, "/files/current/a.bin", byte, LENGTH);
                site.check(&mut client, "/linked/a.bin", byte, LENGTH);
            }
        }
        site.check(&mut client, "/files/one/a.bin", b'1', LENGTH);
        if site.overlay.is_some() {
            // It renames no directories of a lower layer.
            continue;
        }
        fs::rename(site.path("one"), site.path("old")).unwrap();
        assert_eq!(client.exchange(get("/files/one/a.bin")).status(), 404);
        assert_eq!(client.exchange(get("/linked/a.bin")).status(), 404);
        fs::rename(site.path("two"), site.path("one")).unwrap();
        site.check(&mut client, "/files/one/a.bin", b'2', LENGTH);
        site.check(&mut client, "/linked/a.bin", b'2', LENGTH);
        // A link in the place of a directory does not lead outside, even to the same file. (The
        // directory of a location is not outside.)
        fs::remove_file(linked).unwrap();
        fs::rename(site.path("one"), site.dir.path().join("outside")).unwrap();
        symlink(site.dir.path().join("outside"), site.path("one")).unwrap();
        assert_eq!(client.exchange(get("/files/one/a.bin")).status(), 404);
    }
}

/// No descriptor is kept behind its response.
#[test]
fn many_large_files_keep_no_descriptors() {
    const MANY: usize = 150;
    let plant = |dir: &Path| {
        for number in 0..MANY {
            let file = File::create(dir.join(format!("{number}.bin"))).unwrap();
            file.set_len(LENGTH as u64).unwrap();
            (&file).write_all(&[number as u8]).unwrap();
        }
    };
    for site in Site::all(plant) {
        let mut client = site.server.connect();
        for number in (0..MANY).chain(0..MANY) {
            let range = request(
                "GET",
                &format!("/files/{number}.bin"),
                "Range: bytes=0-99999\r\n",
            );
            let response = client.exchange(range);
            assert_eq!((response.status(), response.body.len()), (206, 100_000));
            assert_eq!(response.body[0], number as u8);
        }
        assert_eq!(client.exchange(get("/files/none")).status(), 404);
        let descriptors = format!("/proc/{}/fd", site.server.pid().as_raw_nonzero());
        let links = fs::read_dir(descriptors).unwrap();
        let targets = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let kept = targets.filter(|to| to.extension().is_some_and(|end| end == "bin"));
        assert_eq!(kept.count(), 0);
    }
}
