use super::*;

#[test]
fn registries_of_this_machine_are_known() {
    for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000", "[::1]"] {
        assert!(is_loopback(host), "{host}");
    }
    for host in ["localhost.example.com", "registry:5000", "10.0.0.1:5000", "[::2]:5000", "docker.io"] {
        assert!(!is_loopback(host), "{host}");
    }
}

#[test]
fn a_status_is_told_from_another() {
    let status =
        |code| OciDistributionError::ServerError { code, url: String::new(), message: String::new() };
    for (code, expected) in [
        (401, Trouble::Unauthorized),
        (403, Trouble::Unauthorized),
        (404, Trouble::NotFound),
        (413, Trouble::Refused),
        (500, Trouble::Refused),
    ] {
        assert_eq!(trouble(&status(code)), expected, "{code}");
    }
}
