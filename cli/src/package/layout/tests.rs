use super::super::image::{artifact, container_image};
use super::super::module::tests::module;
use super::*;

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("meshfilter-layout-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

#[test]
fn what_was_written_is_read() {
    let folder = folder("read");
    let (container, artifact) = (container_image(&module()).unwrap(), artifact(&module()).unwrap());
    let images = [("1.2.3", &container), ("1.2.3-artifact", &artifact)];
    write(&folder, &images).unwrap();
    let index = fs::read(folder.join("index.json")).unwrap();
    // Once more over what is there: the same bytes, and nothing of before.
    fs::write(folder.join("blobs/sha256/old"), "").unwrap();
    write(&folder, &images).unwrap();
    assert_eq!(fs::read(folder.join("index.json")).unwrap(), index);
    assert!(!folder.join("blobs/sha256/old").exists());
    let expected = vec![("1.2.3".to_owned(), container), ("1.2.3-artifact".to_owned(), artifact)];
    assert_eq!(read(&folder), Ok(expected));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_was_changed_or_is_missing_is_told() {
    let folder = folder("changed");
    assert!(matches!(read(&folder), Err(Problem::Misused(message)) if message.contains("`make image`")));
    let container = container_image(&module()).unwrap();
    write(&folder, &[("1.2.3", &container)]).unwrap();
    let blob = folder.join("blobs").join(digest(&container.blobs[1]).replace(':', "/"));
    fs::write(&blob, "x").unwrap();
    assert!(matches!(read(&folder), Err(Problem::Wrong(message)) if message.contains("it was changed")));
    fs::remove_file(&blob).unwrap();
    assert!(
        matches!(read(&folder), Err(Problem::Wrong(message)) if message.contains("make the layout again"))
    );
    fs::remove_dir_all(folder).unwrap();
}
