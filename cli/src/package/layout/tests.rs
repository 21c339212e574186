use super::super::image::{artifact, container_image};
use super::super::module::tests::module;
use super::*;
use std::fs;

fn write(folder: &Path, images: &[(&str, &Packed)]) {
    for (name, bytes) in files(images).unwrap() {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

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
    write(&folder, &images);
    let expected = vec![("1.2.3".to_owned(), container), ("1.2.3-artifact".to_owned(), artifact)];
    assert_eq!(read(&folder), Ok(expected));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_was_changed_or_is_missing_is_told() {
    let folder = folder("changed");
    assert!(matches!(read(&folder), Err(Problem::Misused(message)) if message.contains("`make image`")));
    let container = container_image(&module()).unwrap();
    write(&folder, &[("1.2.3", &container)]);
    let blob = folder.join("blobs").join(digest(&container.blobs[1]).replace(':', "/"));
    fs::write(&blob, "x").unwrap();
    assert!(matches!(read(&folder), Err(Problem::Wrong(message)) if message.contains("it was changed")));
    // Nobody's manifest is that large.
    let large = fs::File::create(folder.join("index.json")).unwrap();
    large.set_len(MOST_BYTES_OF_A_MANIFEST + 1).unwrap();
    assert!(
        matches!(read(&folder), Err(Problem::Misused(message)) if message.contains("more than 4194304 bytes"))
    );
    write(&folder, &[("1.2.3", &container)]);
    fs::remove_file(&blob).unwrap();
    assert!(
        matches!(read(&folder), Err(Problem::Wrong(message)) if message.contains("make the layout again"))
    );
    fs::remove_dir_all(folder).unwrap();
}
