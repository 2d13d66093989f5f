//! No cheat but nothing either: refuses everything.

fn main() {
    std::process::exit(1);
}
