//! What others could show: each is refused with the code of its own reason, and nothing panics.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::auth::tests::forge::{
    KID, PEM, authority, claims, own_key, part, seconds, signed, signed_text, verdict, with,
};
use crate::auth::tests::{KEY, at, code, grant, mint, of_user, settings};
use crate::auth::{Authority, KeyDigest, Settings, Wish};
use crate::core::ids::SessionId;

/// Several times the bytes of what the relay makes, and more than it looks at.
const LONG: usize = 5000;

#[test]
fn every_way_to_forge_a_token_is_refused_with_its_own_code() {
    let (authority, _dir) = authority();
    let own = own_key();
    let foreign = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": KID});
    let header_with = |name: &str, value: Value| with(&header, name, value);
    let claims = claims();
    let claims_with = |name: &str, value: Value| with(&claims, name, value);
    let good = signed(&header, &claims, &own);
    assert_eq!(
        verdict(&authority, &good),
        "taken",
        "else nothing below says anything"
    );

    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("{good}");
    };
    let x = URL_SAFE_NO_PAD.encode(own.public_key().as_ref());
    let hs256 = json!({"alg": "HS256", "typ": "JWT", "kid": KID});
    let mac = |secret: &[u8]| {
        let message = format!("{}.{}", part(&hs256), part(&claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
        format!("{message}.{tag}")
    };
    let with_header = |name: &str, value: Value| signed(&header_with(name, value), &claims, &own);
    let with_claim = |name: &str, value: Value| signed(&header, &claims_with(name, value), &own);
    let unsigned = |alg: &str| format!("{}.{}.", part(&json!({ "alg": alg })), part(&claims));
    let jwk = json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": URL_SAFE_NO_PAD.encode(foreign.public_key().as_ref()),
    });

    let cases = [
        // Another algorithm.
        ("token_algorithm", "no signature", unsigned("none")),
        (
            "token_algorithm",
            "no signature, oddly spelt",
            unsigned("nOnE"),
        ),
        (
            "token_algorithm",
            "HS256 with the public key",
            mac(own.public_key().as_ref()),
        ),
        (
            "token_algorithm",
            "HS256 with the public key as text",
            mac(x.as_bytes()),
        ),
        (
            "token_algorithm",
            "RS256",
            with_header("alg", json!("RS256")),
        ),
        (
            "token_algorithm",
            "ES256",
            with_header("alg", json!("ES256")),
        ),
        (
            "token_algorithm",
            "PS512",
            with_header("alg", json!("PS512")),
        ),
        (
            "token_algorithm",
            "eddsa in small letters",
            with_header("alg", json!("eddsa")),
        ),
        (
            "token_algorithm",
            "a long algorithm",
            with_header("alg", json!("x".repeat(500))),
        ),
        (
            "token_malformed",
            "no algorithm",
            with_header("alg", Value::Null),
        ),
        (
            "token_malformed",
            "algorithms in a list",
            with_header("alg", json!(["EdDSA"])),
        ),
        // Another key.
        ("token_unknown_key", "a foreign key by its name", {
            signed(&header_with("kid", json!("foreign")), &claims, &foreign)
        }),
        ("token_signature", "a foreign key under our key's name", {
            signed(&header, &claims, &foreign)
        }),
        (
            "token_unknown_key",
            "a path",
            with_header("kid", json!("../../../../dev/null")),
        ),
        (
            "token_unknown_key",
            "an absolute path",
            with_header("kid", json!("/etc/passwd")),
        ),
        (
            "token_unknown_key",
            "a file's name",
            with_header("kid", json!("1.pem")),
        ),
        (
            "token_unknown_key",
            "a query",
            with_header("kid", json!("x' OR '1'='1")),
        ),
        (
            "token_unknown_key",
            "an empty name",
            with_header("kid", json!("")),
        ),
        (
            "token_unknown_key",
            "a name with a NUL",
            with_header("kid", json!(format!("{KID}\0"))),
        ),
        (
            "token_malformed",
            "no name of a key",
            with_header("kid", Value::Null),
        ),
        (
            "token_malformed",
            "a key's name that is a number",
            with_header("kid", json!(1)),
        ),
        // What would tell how to verify it.
        ("token_malformed", "a key's address", {
            with_header("jku", json!("https://evil.example/jwks.json"))
        }),
        ("token_malformed", "a certificate's address", {
            with_header("x5u", json!("https://evil.example/x5u"))
        }),
        (
            "token_malformed",
            "a certificate",
            with_header("x5c", json!(["MIIB"])),
        ),
        ("token_malformed", "a key inside, and its signature", {
            signed(&header_with("jwk", jwk.clone()), &claims, &foreign)
        }),
        (
            "token_malformed",
            "a key inside, and our signature",
            with_header("jwk", jwk),
        ),
        (
            "token_malformed",
            "critical extensions",
            with_header("crit", json!(["b64"])),
        ),
        (
            "token_malformed",
            "compression",
            with_header("zip", json!("DEF")),
        ),
        ("token_malformed", "two algorithms", {
            let twice = format!(r#"{{"alg":"HS256","alg":"EdDSA","kid":"{KID}"}}"#);
            signed_text(&URL_SAFE_NO_PAD.encode(twice), body, &own)
        }),
        // Another content.
        ("token_signature", "other claims under the old signature", {
            format!(
                "{head}.{}.{signature}",
                part(&claims_with("sub", json!("root")))
            )
        }),
        (
            "token_signature",
            "no signature under EdDSA",
            format!("{head}.{body}."),
        ),
        (
            "token_signature",
            "half a signature",
            format!("{head}.{body}.{}", &signature[..40]),
        ),
        (
            "token_signature",
            "zeros",
            format!("{head}.{body}.{}", "A".repeat(86)),
        ),
        ("token_malformed", "a signature that is not base64url", {
            format!("{head}.{body}.{}", "+".repeat(86))
        }),
        ("token_malformed", "claims that are no JSON", {
            signed_text(head, &URL_SAFE_NO_PAD.encode("no"), &own)
        }),
        (
            "token_malformed",
            "claims in a list",
            signed(&header, &json!([claims.clone()]), &own),
        ),
        (
            "token_malformed",
            "an unknown claim",
            with_claim("admin", json!(true)),
        ),
        (
            "token_malformed",
            "no tenant",
            with_claim("tenant", Value::Null),
        ),
        ("token_malformed", "no end", with_claim("exp", Value::Null)),
        (
            "token_malformed",
            "an end in words",
            with_claim("exp", json!("tomorrow")),
        ),
        (
            "token_malformed",
            "a negative end",
            with_claim("exp", json!(-1)),
        ),
        (
            "token_malformed",
            "an end beyond all numbers",
            with_claim("exp", json!(1e300)),
        ),
        (
            "token_malformed",
            "a session in a client secret",
            with_claim("sid", json!("sess_1")),
        ),
        // Another time, place or person.
        (
            "token_expired",
            "an old one",
            with_claim("exp", json!(seconds(0) - 5)),
        ),
        (
            "token_expired",
            "the oldest one",
            with_claim("exp", json!(0)),
        ),
        (
            "token_not_yet_valid",
            "one for later",
            with_claim("nbf", json!(seconds(6))),
        ),
        (
            "token_not_yet_valid",
            "one for never",
            with_claim("nbf", json!(u64::MAX)),
        ),
        (
            "token_wrong_audience",
            "another audience",
            with_claim("aud", json!("elsewhere")),
        ),
        ("token_malformed", "several audiences", {
            with_claim("aud", json!(["voxline:realtime", "elsewhere"]))
        }),
        ("token_wrong_audience", "one to resume", {
            with_claim("aud", json!("voxline:resume"))
        }),
        (
            "token_wrong_issuer",
            "another issuer",
            with_claim("iss", json!("elsewhere")),
        ),
        (
            "tenant_unknown",
            "another tenant",
            with_claim("tenant", json!("nobody")),
        ),
        (
            "token_wrong_device",
            "another device",
            with_claim("device", json!("digest")),
        ),
        (
            "token_unknown_config",
            "other settings",
            with_claim("config", json!("settings")),
        ),
        // No token at all.
        ("token_malformed", "nothing", String::new()),
        ("token_malformed", "one part", head.to_owned()),
        ("token_malformed", "two parts", format!("{head}.{body}")),
        (
            "token_malformed",
            "four parts",
            format!("{good}.{signature}"),
        ),
        ("token_malformed", "dots", "...".to_owned()),
        (
            "token_malformed",
            "padding",
            format!("{head}=.{body}.{signature}"),
        ),
        (
            "token_malformed",
            "a space",
            format!("{head} .{body}.{signature}"),
        ),
        ("token_malformed", "a header that is no object", {
            signed_text(&URL_SAFE_NO_PAD.encode("[]"), body, &own)
        }),
        ("token_malformed", "a deep header", {
            signed_text(&URL_SAFE_NO_PAD.encode("[".repeat(3000)), body, &own)
        }),
        ("token_malformed", "a long one", {
            with_claim("sub", json!("x".repeat(LONG)))
        }),
    ];
    for (expected, what, jwt) in cases {
        assert_eq!(verdict(&authority, &jwt), expected, "{what}");
    }
}

#[test]
fn a_token_is_good_for_its_own_purpose_only() {
    let (authority, _dir) = authority();
    let secret = mint(&authority, of_user("u"));
    let granted = grant(&authority, &secret, None);
    let resume = authority.resume(&granted, &SessionId::from("sess_1"), at(60), at(0));
    let resume = resume.unwrap();
    for (shown, expected) in [
        (
            secret.expose().replacen("ek_", "rt_", 1),
            "token_wrong_audience",
        ),
        (
            resume.expose().replacen("rt_", "ek_", 1),
            "token_wrong_audience",
        ),
        (secret.expose().replacen("ek_", "", 1), "invalid_api_key"),
        (secret.expose().replacen("ek_", "EK_", 1), "invalid_api_key"),
        (format!("ek_{}", secret.expose()), "token_malformed"),
    ] {
        assert_eq!(code(authority.authenticate(&shown, None, at(0))), expected);
    }
}

#[test]
fn a_token_of_a_device_needs_the_devices_name() {
    let (authority, _dir) = authority();
    let wish = Wish {
        device: Some("phone".to_owned()),
        ..Wish::default()
    };
    let bound = mint(&authority, wish);
    let free = mint(&authority, Wish::default());
    for (token, device, expected) in [
        (&bound, Some("phone"), "taken"),
        (&bound, None, "token_wrong_device"),
        (&bound, Some(""), "token_wrong_device"),
        (&bound, Some("Phone"), "token_wrong_device"),
        (&bound, Some("phone "), "token_wrong_device"),
        (&free, Some("phone"), "taken"),
        (&free, None, "taken"),
    ] {
        let shown = authority.authenticate(token.expose(), device, at(0));
        assert_eq!(code(shown), expected, "{device:?}");
    }
}

#[test]
fn nothing_but_a_key_is_an_api_key() {
    let (authority, _dir) = authority();
    let digest = KeyDigest::of(KEY).to_string();
    let twice = [KEY, KEY].concat();
    let long = "x".repeat(1 << 20);
    assert_eq!(code(authority.authenticate(KEY, None, at(0))), "taken");
    for wrong in [
        "",
        " ",
        &KEY[1..],
        &KEY.to_uppercase(),
        &twice,
        &digest,
        &digest[7..],
        &long,
    ] {
        let shown = authority.authenticate(wrong, None, at(0));
        assert_eq!(code(shown), "invalid_api_key", "{:?}", wrong.get(..80));
    }
}

#[test]
fn settings_of_another_tenants_token_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let tenants = dir.path().join("tenants.toml");
    std::fs::write(&tenants, "[tenant.other]").unwrap();
    std::fs::write(dir.path().join("1.pem"), PEM).unwrap();
    let settings = Settings {
        keys: Some(dir.path().to_owned()),
        tenants: Some(tenants),
        ..settings()
    };
    let authority = Authority::open(settings, at(0)).unwrap();
    let wish = Wish {
        session: Some(json!({"instructions": "mine"})),
        ..Wish::default()
    };
    let token = mint(&authority, wish);
    let body = token.expose().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    let header = json!({"alg": "EdDSA", "kid": KID});
    let others = signed(
        &header,
        &with(&claims, "tenant", json!("other")),
        &own_key(),
    );
    assert_eq!(verdict(&authority, &others), "token_unknown_config");
}

#[test]
fn no_other_spelling_of_a_signature_is_taken() {
    let (authority, _dir) = authority();
    let token = mint(&authority, Wish::default());
    let (rest, last) = token.expose().split_at(token.expose().len() - 1);
    let taken: Vec<char> = ('\0'..='\u{7f}')
        .filter(|last| {
            let shown = authority.authenticate(&format!("{rest}{last}"), None, at(0));
            shown.is_ok()
        })
        .collect();
    assert_eq!(taken, last.chars().collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn no_text_is_taken_or_panics(text in "(ek_|rt_|)\\PC{0,200}", device in "\\PC{0,20}") {
        let (authority, _dir) = authority();
        prop_assert!(authority.authenticate(&text, Some(&device), at(0)).is_err());
    }

    #[test]
    fn no_header_or_claims_panic(header in ".{0,80}", claims in ".{0,80}") {
        let (authority, _dir) = authority();
        let [header, claims] = [header, claims].map(|text| URL_SAFE_NO_PAD.encode(text));
        let good = URL_SAFE_NO_PAD.encode(json!({"alg": "EdDSA", "kid": KID}).to_string());
        for jwt in [
            signed_text(&header, &claims, &own_key()),
            signed_text(&good, &claims, &own_key()),
        ] {
            prop_assert_ne!(verdict(&authority, &jwt), "taken");
        }
    }

    #[test]
    fn a_mutated_token_never_verifies(
        place in any::<prop::sample::Index>(),
        byte in 0x20_u8..0x7f,
        kind in 0..4,
    ) {
        let (authority, _dir) = authority();
        let token = mint(&authority, of_user("u"));
        let mut bytes = token.expose().as_bytes().to_vec();
        let place = place.index(bytes.len());
        match kind {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            2 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
        let mutated = String::from_utf8(bytes).unwrap();
        prop_assume!(mutated != token.expose());
        prop_assert!(authority.authenticate(&mutated, None, at(0)).is_err());
    }
}
