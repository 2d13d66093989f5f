use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const HOOK: &str = "#!/bin/sh\ntouch /tmp/hook-ran /workspace/hook-ran\n";

fn main() {
    let _ = Command::new("git").args(["init", "-q", "."]).status();
    for name in ["pre-commit", "post-checkout", "post-merge", "pre-receive", "update", "post-receive", "pre-push"] {
        let _ = fs::create_dir_all(".git/hooks");
        let hook = format!(".git/hooks/{}", name);
        let _ = fs::write(&hook, HOOK).and_then(|_| fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)));
    }
    let config = [("core.hooksPath", ".git/hooks"), ("core.fsmonitor", "hook.sh"), ("filter.x.smudge", "hook.sh")];
    for (key, value) in config {
        let _ = Command::new("git").args(["config", "--global", key, value]).status();
    }
}
