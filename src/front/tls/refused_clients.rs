//! Clients whose certificate is refused: the reason, for an operator who has to help them.
//!
//! Anybody can cause these lines, so each reason has one in ten seconds: who has no certificate
//! of the authorities cannot hide the lines about those who have one.

use std::net::IpAddr;

use rustls::CertificateError as Defect;

use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::throttle::Throttle;
use crate::observe::tls::ClientRefusal;

/// Counts and logs a handshake that failed for the certificate of the client; returns false for
/// any other error.
pub fn note(error: &rustls::Error, client: Option<IpAddr>) -> bool {
    static LINES: [Throttle; ClientRefusal::ALL.len()] =
        [const { Throttle::new() }; ClientRefusal::ALL.len()];
    let Some(why) = reason(error) else {
        return false;
    };
    METRICS.tls.refused_client(why);
    let reason = why.as_str();
    let client = client.map(tracing::field::display);
    match LINES[why as usize].is_due() {
        Some(before) => {
            tracing::warn!(
                code = codes::CLIENT_CERTIFICATE,
                client,
                reason,
                %error,
                refused_before = before,
                "TLS handshake refused: {}",
                text(why)
            );
        }
        None => tracing::debug!(client, reason, %error, "TLS handshake refused"),
    }
    true
}

/// The reason, if a handshake failed for the certificate of the client; the server verifies no other.
fn reason(error: &rustls::Error) -> Option<ClientRefusal> {
    let defect = match error {
        rustls::Error::NoCertificatesPresented => return Some(ClientRefusal::Missing),
        rustls::Error::InvalidCertificate(defect) => defect,
        _ => return None,
    };
    Some(match defect {
        // The second is of one that has the name of an authority, and another key.
        Defect::UnknownIssuer | Defect::BadSignature => ClientRefusal::UnknownIssuer,
        Defect::Expired | Defect::ExpiredContext { .. } => ClientRefusal::Expired,
        Defect::NotValidYet | Defect::NotValidYetContext { .. } => ClientRefusal::NotYetValid,
        Defect::Revoked => ClientRefusal::Revoked,
        Defect::UnknownRevocationStatus => ClientRefusal::NoRevocationList,
        Defect::ExpiredRevocationList | Defect::ExpiredRevocationListContext { .. } => {
            ClientRefusal::OutdatedRevocationList
        }
        _ => ClientRefusal::Invalid,
    })
}

fn text(why: ClientRefusal) -> &'static str {
    match why {
        ClientRefusal::Missing => {
            "the client has no certificate (--tls-client-auth optional serves it)"
        }
        ClientRefusal::UnknownIssuer => {
            "no authority in --tls-client-ca has issued the client's certificate, or an intermediate one is missing"
        }
        ClientRefusal::Expired => "the client's certificate has expired",
        ClientRefusal::NotYetValid => "the client's certificate is not valid yet",
        ClientRefusal::Revoked => "the client's certificate is revoked",
        ClientRefusal::NoRevocationList => {
            "no list in --tls-client-crl is of an authority in the client's chain (give one for each)"
        }
        ClientRefusal::OutdatedRevocationList => {
            "a list in --tls-client-crl is outdated (exchange its file for a new one)"
        }
        ClientRefusal::Invalid => "the client's certificate cannot be used",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_lines_have_the_numbers_of_their_reasons() {
        for (number, why) in ClientRefusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, number, "{}", why.as_str());
        }
    }
}
