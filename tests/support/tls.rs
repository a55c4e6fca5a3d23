//! Certificates made for a test by the `openssl` command, and the client's side of TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{provision, temp_dir};

/// A private authority; its files go away with the value.
pub struct Authority {
    dir: TempDir,
}

/// The files of a certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The validity of a certificate, as `openssl ca` takes it.
pub struct Validity {
    pub from: &'static str,
    pub to: &'static str,
}

/// From the past into a far future.
pub const VALID: Validity = Validity {
    from: "20200101000000Z",
    to: "20990101000000Z",
};

/// The authority of all tests that need no other.
pub fn authority() -> &'static Authority {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);
    &AUTHORITY
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
            let found = Command::new("openssl").arg("version").output();
            found.is_ok_and(|ran| ran.status.success())
        });
        if !*IS_THERE && let Err(why) = provision::debian(&["openssl"]) {
            panic!("tests of TLS need the openssl command: {why}");
        }
        let authority = Self { dir: temp_dir() };
        openssl(
            authority.dir.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
             -keyout ca.key -out ca.pem -subj /O=Test/CN=Root -addext basicConstraints=critical,CA:TRUE",
        );
        authority
    }

    /// The root certificate.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(self.root()).unwrap();
        roots.add(root).unwrap();
        roots
    }

    /// A certificate for hosts and addresses, with the root behind it, in new files.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_to("/O=Test/CN=server", names, &VALID)
    }

    /// The same with another subject and validity. Without names there is no `subjectAltName`.
    pub fn issue_to(&self, subject: &str, names: &[&str], validity: &Validity) -> Issued {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let kind = |name: &&str| match name.parse::<std::net::IpAddr>() {
            Ok(_) => format!("IP:{name}"),
            Err(_) => format!("DNS:{name}"),
        };
        let names: Vec<_> = names.iter().map(kind).collect();
        let alternative = match names.is_empty() {
            true => String::new(),
            false => format!("subjectAltName={}\n", names.join(",")),
        };
        let settings = format!(
            "[ca]\ndefault_ca=our\n[our]\nnew_certs_dir=.\ndatabase=index\nserial=serial\n\
             policy=any\ndefault_md=sha256\nunique_subject=no\nx509_extensions=ext\n\
             [any]\ncountryName=optional\norganizationName=optional\ncommonName=optional\n\
             organizationalUnitName=optional\n[ext]\nbasicConstraints=CA:FALSE\n{alternative}\
             [req]\ndistinguished_name=empty\n[empty]\n"
        );
        std::fs::write(dir.join("settings"), settings).unwrap();
        std::fs::write(dir.join("index"), "").unwrap();
        let serial = dir.file_name().unwrap().as_encoded_bytes();
        let serial: String = serial[serial.len() - 6..]
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        std::fs::write(dir.join("serial"), format!("{serial}\n")).unwrap();
        openssl_with(
            &dir,
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out request \
             -config settings -utf8",
            &["-subj", subject],
        );
        openssl(
            &dir,
            &format!(
                "ca -batch -config settings -cert ../ca.pem -keyfile ../ca.key -in request \
                 -out cert.pem -notext -utf8 -startdate {} -enddate {}",
                validity.from, validity.to
            ),
        );
        let mut chain = std::fs::read(dir.join("cert.pem")).unwrap();
        chain.extend(std::fs::read(self.root()).unwrap());
        std::fs::write(dir.join("fullchain.pem"), chain).unwrap();
        Issued {
            cert: dir.join("fullchain.pem"),
            key: dir.join("key.pem"),
        }
    }

    /// A new revocation list with these certificates.
    pub fn revocations(&self, revoked: &[&Issued]) -> PathBuf {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let settings = "[ca]\ndefault_ca=our\n[our]\ndatabase=index\ndefault_md=sha256\n\
                        default_crl_days=30\ncrlnumber=number\ncrl_extensions=ext\n\
                        [ext]\nauthorityKeyIdentifier=keyid\n";
        std::fs::write(dir.join("settings"), settings).unwrap();
        std::fs::write(dir.join("index"), "").unwrap();
        std::fs::write(dir.join("number"), "01\n").unwrap();
        let own = "-config settings -cert ../ca.pem -keyfile ../ca.key";
        for one in revoked {
            let cert = one.cert.with_file_name("cert.pem");
            openssl(&dir, &format!("ca {own} -revoke {}", cert.display()));
        }
        openssl(&dir, &format!("ca {own} -gencrl -out crl.pem"));
        dir.join("crl.pem")
    }

    /// The settings of a client that trusts this authority, and offers these protocols by ALPN.
    pub fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        self.client_with(protocols, rustls::ALL_VERSIONS, None)
    }

    /// The same with these versions, and with a certificate of its own.
    pub fn client_with(
        &self,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (certs, key) = own.read();
                builder.with_client_auth_cert(certs, key).unwrap()
            }
        };
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}

impl Issued {
    /// The chain and the key.
    pub fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certs = CertificateDer::pem_file_iter(&self.cert).unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        (certs.collect::<Result<_, _>>().unwrap(), key)
    }
}

/// The settings of a server with this certificate, which requires certificates of `clients`.
pub fn server(own: &Issued, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(clients.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (certs, key) = own.read();
    let mut config = builder.with_single_cert(certs, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
}

/// A self-signed certificate as `openssl req -x509` makes it, in new files.
pub fn self_signed(names: &str) -> Issued {
    let dir = tempfile::tempdir_in(authority().dir.path()).unwrap().keep();
    openssl(
        &dir,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout key.pem \
             -out cert.pem -subj /CN=self -addext subjectAltName={names}"
        ),
    );
    Issued {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The name of a server for SNI and verification.
pub fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

fn openssl(dir: &Path, words: &str) {
    openssl_with(dir, words, &[]);
}

/// Runs `openssl`; the words of its command line, and more with blanks in them.
fn openssl_with(dir: &Path, words: &str, more: &[&str]) {
    let ran = Command::new("openssl")
        .current_dir(dir)
        .args(words.split_whitespace())
        .args(more)
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "openssl {words}: {said}");
}
