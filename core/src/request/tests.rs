use super::*;

fn request(headers: &[(&str, &str)]) -> Request<'static> {
    Request::new(headers.iter().copied().collect(), Vec::new(), 0)
}

fn strings<T: AsRef<[u8]>>(values: impl Iterator<Item = T>) -> Vec<String> {
    values.map(|value| String::from_utf8_lossy(value.as_ref()).into_owned()).collect()
}

#[test]
fn a_path_ends_at_the_query_and_at_the_fragment() {
    for (whole, path, query) in [
        ("/a", "/a", None),
        ("/a?b=c", "/a", Some("b=c")),
        ("/a#f?b", "/a", None),
        ("/a?b#f", "/a", Some("b")),
        ("/a?", "/a", Some("")),
        ("", "", None),
    ] {
        let request = request(&[(":path", whole)]);
        assert_eq!(request.path(), path.as_bytes(), "{whole}");
        assert_eq!(request.query(), query.map(str::as_bytes), "{whole}");
    }
}

#[test]
fn query_parameters_are_decoded_and_all_their_values_are_seen() {
    let request = request(&[(":path", "/?a=1&b&a=%32%2B+&%61=3&&=x&c=a=b#a=9")]);
    assert_eq!(strings(request.query_values("a")), ["1", "2++", "3"]);
    assert_eq!(strings(request.query_values("b")), [""]);
    assert_eq!(strings(request.query_values("c")), ["a=b"]);
    assert_eq!(strings(request.query_values("d")), [""; 0]);
}

#[test]
fn cookies_are_read_from_every_header_however_malformed() {
    let request = request(&[("cookie", "a=1; b=\"2\";c; =;;a=3 ; d=x=y"), ("cookie", "a=4;\t a=5;aa=6")]);
    assert_eq!(strings(request.cookie_values("a")), ["1", "3", "4", "5"]);
    assert_eq!(strings(request.cookie_values("b")), ["2"]);
    assert_eq!(strings(request.cookie_values("c")), [""; 0]);
    assert_eq!(strings(request.cookie_values("d")), ["x=y"]);
}

#[test]
fn edits_show_in_the_snapshot_and_carry_no_line_ends() {
    let mut request = request(&[("x-user", "forged"), ("x-user", "again"), ("y", "1")]);
    request.set_header("x-user", b"al\r\nice\0");
    request.remove_header("absent");
    request.remove_header("y");
    request.add_header("z", b"1");
    assert_eq!(strings(request.header_values("x-user")), ["alice"]);
    assert_eq!(request.header("y"), None);
    assert_eq!(
        request.take_edits(),
        [
            HeaderEdit::Set("x-user".into(), b"alice".to_vec()),
            HeaderEdit::Remove("y".into()),
            HeaderEdit::Add("z".into(), b"1".to_vec()),
        ]
    );
    assert_eq!(request.take_edits(), []);
}

#[test]
fn addresses_have_ports_or_none_and_brackets_or_none() {
    let mut table = AttributeTable::default();
    let (v4, v6, bare) = (table.intern(&["a"]), table.intern(&["b"]), table.intern(&["c"]));
    assert_eq!(table.intern(&["a"]), v4);
    let attributes = [b"10.0.0.1:80".as_slice(), b"[2001:db8::1]:443", b"192.0.2.7"];
    let request =
        Request::new(HeaderMap::default(), attributes.map(|value| Some(value.to_vec())).to_vec(), 0);
    assert_eq!(request.ip(v4), "10.0.0.1".parse().ok());
    assert_eq!(request.ip(v6), "2001:db8::1".parse().ok());
    assert_eq!(request.ip(bare), "192.0.2.7".parse().ok());
    assert_eq!(request.address(bare), None);
}

#[test]
fn grpc_is_told_by_the_content_type() {
    for (value, grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        assert_eq!(request(&[("content-type", value)]).is_grpc(), grpc, "{value}");
    }
}

#[test]
fn a_rewrite_does_not_hide_the_path_that_came() {
    let mut request = request(&[(":path", "/a?b")]);
    assert_eq!(request.original_path_and_query(), b"/a?b");
    request.set_header(":path", b"/c");
    request.set_header(":path", b"/d");
    assert_eq!(request.original_path_and_query(), b"/a?b");
    assert_eq!(request.path(), b"/d");
}
