//! The account's key, and the signed requests of RFC 8555 §6.2 (JWS, RFC 7515).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::error::AcmeError;

/// A key for signatures with ES256 (RFC 7518 §3.4).
pub struct AccountKey {
    pair: EcdsaKeyPair,
}

impl AccountKey {
    /// The key in this PKCS #8, in DER.
    ///
    /// # Errors
    /// Other bytes.
    pub fn of(pkcs8: &[u8]) -> Result<Self, AcmeError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
        let pair =
            pair.map_err(|error| AcmeError::internal("cannot use the account's key", error))?;
        Ok(Self { pair })
    }

    /// The public key (RFC 7517), its members in the order of RFC 7638 §3.2.
    pub fn public(&self) -> Value {
        // Uncompressed: 4, and both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({"crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y)})
    }

    /// The key authorization of a token (RFC 8555 §8.1).
    pub fn authorization(&self, token: &str) -> String {
        // RFC 7638 §3: members sorted, no blanks; so serde_json writes a map.
        let thumbprint = digest(&SHA256, self.public().to_string().as_bytes());
        format!("{token}.{}", encoded(thumbprint.as_ref()))
    }

    /// A signed request. `None` as payload is the "POST-as-GET" of RFC 8555 §6.3; without an `account`
    /// the request has the key itself.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn signed(
        &self,
        url: &str,
        nonce: &str,
        account: Option<&str>,
        payload: Option<&Value>,
    ) -> Result<String, AcmeError> {
        let mut head = json!({"alg": "ES256", "nonce": nonce, "url": url});
        match account {
            Some(account) => head["kid"] = account.into(),
            None => head["jwk"] = self.public(),
        }
        let payload = payload.map_or(String::new(), |payload| encoded(payload.to_string()));
        let head = encoded(head.to_string());
        let signature = self
            .pair
            .sign(&SystemRandom::new(), format!("{head}.{payload}").as_bytes());
        let signature = signature.map_err(|error| AcmeError::internal("cannot sign", error))?;
        Ok(flattened(&head, &payload, signature.as_ref()).to_string())
    }

    /// The `externalAccountBinding` of a new account (RFC 8555 §7.3.4).
    pub fn bound_to(&self, url: &str, kid: &str, key: &[u8]) -> Value {
        let head = encoded(json!({"alg": "HS256", "kid": kid, "url": url}).to_string());
        let payload = encoded(self.public().to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let signature = hmac::sign(&key, format!("{head}.{payload}").as_bytes());
        flattened(&head, &payload, signature.as_ref())
    }
}

/// The "flattened JSON serialization" of RFC 7515 §7.2.2.
fn flattened(head: &str, payload: &str, signature: &[u8]) -> Value {
    json!({"protected": head, "payload": payload, "signature": encoded(signature)})
}

/// base64url without padding, as everywhere in the protocol.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of base64url, with or without padding and line ends.
///
/// # Errors
/// Other characters.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text.trim().trim_end_matches('='))
        .ok()
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;
    use crate::front::acme::der::Key;

    #[test]
    fn a_signed_request_is_verified_by_its_own_public_key() {
        let key = AccountKey::of(&Key::generate().unwrap().pkcs8).unwrap();
        let body = key
            .signed("https://a/b", "n", None, Some(&json!({"x": 1})))
            .unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let part = |name: &str| body[name].as_str().unwrap().to_owned();
        let head: Value = serde_json::from_slice(&decoded(&part("protected")).unwrap()).unwrap();
        assert_eq!(head["alg"], "ES256");
        assert_eq!(head["url"], "https://a/b");
        assert_eq!(head["nonce"], "n");
        let mut point = vec![4];
        for coordinate in ["x", "y"] {
            point.extend(decoded(head["jwk"][coordinate].as_str().unwrap()).unwrap());
        }
        let signed = format!("{}.{}", part("protected"), part("payload"));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
            .verify(signed.as_bytes(), &decoded(&part("signature")).unwrap())
            .unwrap();
        let as_get = key
            .signed("https://a/b", "n", Some("https://a/1"), None)
            .unwrap();
        let as_get: Value = serde_json::from_str(&as_get).unwrap();
        assert_eq!(as_get["payload"], "");
    }

    #[test]
    fn the_public_key_is_written_in_the_order_of_the_thumbprint() {
        let key = AccountKey::of(&Key::generate().unwrap().pkcs8).unwrap();
        let text = key.public().to_string();
        // RFC 7638 §3.2: crv, kty, x, y.
        let places: Vec<_> = ["\"crv\"", "\"kty\"", "\"x\"", "\"y\""]
            .iter()
            .map(|name| text.find(name).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains(' '));
        let authorization = key.authorization("token");
        let (token, thumbprint) = authorization.split_once('.').unwrap();
        assert_eq!((token, thumbprint.len()), ("token", 43));
    }

    #[test]
    fn base64url_is_read_with_and_without_padding() {
        assert_eq!(decoded("AIdlQyE").unwrap(), [0, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(decoded("AIdlQyE=\n").unwrap(), [0, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(decoded("a+b/"), None);
    }
}
