//! One JSON Web Key (RFC 7517, RFC 7518, RFC 8037). The reasons for leaving one out are Envoy's words where Envoy
//! has them.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::signature::{Curve, Material, hash_length};
use super::{Algorithm, Status};

/// A key that tokens can be verified with.
pub struct Key {
    /// An empty one is none, as for Envoy.
    pub kid: Option<Box<str>>,
    /// The one algorithm that it is for, if it says so.
    pub algorithm: Option<Algorithm>,
    /// The key itself.
    pub material: Material,
}

/// Some issuers pad, which takes nothing from a key's worth.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// Why nothing can be verified with it.
    pub fn parse(jwk: &Value) -> Result<Self, String> {
        let members = jwk.as_object().ok_or("a key is an object")?;
        let material = match text(members, "kty", Status::JwksMissingKty, Status::JwksBadKty)? {
            "RSA" => rsa(members)?,
            "EC" => ec(members)?,
            "OKP" => okp(members)?,
            "oct" => oct(members)?,
            _ => return Err(Status::JwksNotImplementedKty.to_string()),
        };
        let algorithm = match said(members, "alg") {
            None => None,
            Some(alg) => Some(algorithm(alg, &material)?),
        };
        match said(members, "use") {
            None => {}
            Some(Value::String(purpose)) if purpose == "sig" => {}
            Some(purpose) => return Err(format!("its [use] is {purpose}, not \"sig\"")),
        }
        match said(members, "key_ops") {
            None => {}
            Some(Value::Array(operations))
                if operations.is_empty() || operations.iter().any(|operation| operation == "verify") => {}
            Some(operations) => return Err(format!("its [key_ops] are {operations}, without \"verify\"")),
        }
        let kid = match said(members, "kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()).filter(|kid| !kid.is_empty()),
            Some(_) => return Err("[kid] is not a string".to_owned()),
        };
        Ok(Key { kid: kid.map(Into::into), algorithm, material })
    }
}

/// A member that is there. What is null was not said: some issuers write out every member that a key may have.
fn said<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

fn text<'a>(
    members: &'a Map<String, Value>,
    name: &str,
    missing: Status,
    bad: Status,
) -> Result<&'a str, String> {
    said(members, name).ok_or_else(|| missing.to_string())?.as_str().ok_or_else(|| bad.to_string())
}

fn bytes(
    members: &Map<String, Value>,
    name: &str,
    missing: Status,
    bad: Status,
    unreadable: Status,
) -> Result<Vec<u8>, String> {
    BASE64URL.decode(text(members, name, missing, bad)?).map_err(|_| unreadable.to_string())
}

fn rsa(members: &Map<String, Value>) -> Result<Material, String> {
    let unreadable = Status::JwksRsaParseError;
    let n = bytes(members, "n", Status::JwksRSAKeyMissingN, Status::JwksRSAKeyBadN, unreadable)?;
    let e = bytes(members, "e", Status::JwksRSAKeyMissingE, Status::JwksRSAKeyBadE, unreadable)?;
    Material::rsa(&n, &e)
}

fn ec(members: &Map<String, Value>) -> Result<Material, String> {
    // Envoy takes P-256 for granted where `crv` is missing; RFC 7518 does not.
    let curve = match said(members, "crv") {
        None => return Err("[crv] field is missing for an EC key".to_owned()),
        Some(curve) => curve.as_str().ok_or_else(|| Status::JwksECKeyBadCrv.to_string())?,
    };
    let curve = Curve::from_name(curve).ok_or_else(|| Status::JwksECKeyAlgOrCrvUnsupported.to_string())?;
    let unreadable = Status::JwksEcXorYBadBase64;
    let x = bytes(members, "x", Status::JwksECKeyMissingX, Status::JwksECKeyBadX, unreadable)?;
    let y = bytes(members, "y", Status::JwksECKeyMissingY, Status::JwksECKeyBadY, unreadable)?;
    Material::ec(curve, &x, &y)
}

fn okp(members: &Map<String, Value>) -> Result<Material, String> {
    let curve = text(members, "crv", Status::JwksOKPKeyMissingCrv, Status::JwksOKPKeyBadCrv)?;
    if curve != "Ed25519" {
        return Err(Status::JwksOKPKeyCrvUnsupported.to_string());
    }
    let unreadable = Status::JwksOKPXBadBase64;
    let x = bytes(members, "x", Status::JwksOKPKeyMissingX, Status::JwksOKPKeyBadX, unreadable)?;
    Material::ed25519(x.as_slice().try_into().map_err(|_| Status::JwksOKPXWrongLength.to_string())?)
}

fn oct(members: &Map<String, Value>) -> Result<Material, String> {
    let unreadable = Status::JwksOctBadBase64;
    let k = bytes(members, "k", Status::JwksHMACKeyMissingK, Status::JwksHMACKeyBadK, unreadable)?;
    let needed = hash_length(Algorithm::Hs256);
    if k.len() < needed {
        return Err(format!("a secret of {} bytes; {needed} are the least", k.len()));
    }
    Ok(Material::secret(&k))
}

/// What `alg` says, if that can be done with this key.
fn algorithm(alg: &Value, material: &Material) -> Result<Algorithm, String> {
    let algorithm = alg.as_str().and_then(Algorithm::from_name);
    if let Some(algorithm) = algorithm.filter(|algorithm| material.fits(*algorithm)) {
        return Ok(algorithm);
    }
    Err(match (material, algorithm) {
        (Material::Rsa { .. }, _) => Status::JwksRSAKeyBadAlg.to_string(),
        (Material::Ec { .. }, Some(Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512)) => {
            Status::JwksECKeyAlgNotCompatibleWithCrv.to_string()
        }
        (Material::Ec { .. }, _) => Status::JwksECKeyBadAlg.to_string(),
        (Material::Ed25519 { .. }, _) => Status::JwksOKPKeyBadAlg.to_string(),
        (Material::Secret { length, .. }, Some(algorithm)) if algorithm.name().starts_with("HS") => format!(
            "a secret of {length} bytes; {} are the least for {}",
            hash_length(algorithm),
            algorithm.name()
        ),
        (Material::Secret { .. }, _) => Status::JwksHMACKeyBadAlg.to_string(),
    })
}
