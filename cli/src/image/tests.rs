use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("meshfilter-image-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn files(pairs: &[(&str, &str)]) -> Files {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn read(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok()
}

#[test]
fn what_an_earlier_run_wrote_is_replaced_and_what_others_did_stays() {
    let folder = folder("replaced");
    replace(&folder, files(&[("a", "1"), ("policies/old.json", "{}"), ("oci/blobs/x", "x")])).unwrap();
    write(&folder, "policies/mine.yaml", b"mine").unwrap();
    write(&folder, "oci/mine", b"mine").unwrap();
    replace(&folder, files(&[("a", "2"), ("policies/new.json", "{}")])).unwrap();
    for (name, text) in [
        ("a", Some("2")),
        ("policies/new.json", Some("{}")),
        ("policies/old.json", None),
        ("oci/blobs/x", None),
        ("policies/mine.yaml", Some("mine")),
        ("oci/mine", Some("mine")),
    ] {
        assert_eq!(read(&folder, name).as_deref(), text, "{name}");
    }
    let sums = read(&folder, SUMS).unwrap();
    let names: Vec<&str> = sums.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert_eq!(names, ["a", "policies/new.json"], "only its own");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_written() {
    let folder = folder("way");
    write(&folder, "policies/a.json", b"by hand").unwrap();
    let error = replace(&folder, files(&[("b", "1"), ("policies/a.json", "{}")])).unwrap_err();
    let Problem::Misused(message) = error else { panic!("{error:?}") };
    assert!(message.contains("policies/a.json: `meshfilter image` did not write this"), "{message}");
    assert!(message.contains("choose another folder with --output, or remove it"), "{message}");
    assert_eq!((read(&folder, "b"), read(&folder, "policies/a.json").as_deref()), (None, Some("by hand")));

    // One that is the same is nobody's loss; one that was changed since is.
    write(&folder, "policies/a.json", b"{}").unwrap();
    replace(&folder, files(&[("policies/a.json", "{}")])).unwrap();
    write(&folder, "policies/a.json", b"changed").unwrap();
    assert!(replace(&folder, files(&[("policies/a.json", "{ }")])).is_err());
    replace(&folder, files(&[("b", "1")])).unwrap();
    assert_eq!(read(&folder, "policies/a.json").as_deref(), Some("changed"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn sums_of_others_are_no_licence() {
    let folder = folder("sums");
    write(&folder, SUMS, b"a list of groceries").unwrap();
    assert!(replace(&folder, files(&[("b", "1")])).is_err());
    let outside = folder.with_extension("outside");
    fs::write(&outside, "x").unwrap();
    let line = format!(
        "{}  ../{}\n",
        digest(b"x").trim_start_matches("sha256:"),
        outside.file_name().unwrap().display()
    );
    write(&folder, SUMS, format!("{line}{}  c\n", "0".repeat(64)).as_bytes()).unwrap();
    write(&folder, "c", b"c").unwrap();
    replace(&folder, files(&[("b", "1")])).unwrap();
    assert!(outside.exists() && folder.join("c").exists());
    fs::remove_file(outside).unwrap();
    fs::remove_dir_all(folder).unwrap();
}
