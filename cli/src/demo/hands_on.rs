//! `--keep`: commands to try by hand, with the real ports and files.

use std::io::{self, Write};

use super::directory::Workspace;
use super::mesh::{Mesh, ProxyPorts, local};
use super::traffic::TARGET;
use crate::terminal::{Ink, Style};

/// Prints them.
pub(super) fn print(workspace: &Workspace, mesh: &Mesh, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let ports = &mesh.ports;
    let program = std::env::current_exe()?;
    let program = program.display();
    let outbound = |proxy: &ProxyPorts| local(proxy.outbound);
    let blocks: [(&str, Vec<String>); 6] = [
        (
            "Call prodsvc as dev/web (the body says which version answered and who called it)",
            vec![format!("curl -x http://{} {TARGET}", outbound(&ports.web))],
        ),
        (
            "The same as dev/intruder, refused",
            vec![format!("curl -i -x http://{} {TARGET}", outbound(&ports.intruder))],
        ),
        (
            "Plain text straight to the proxy of v1-stable, refused",
            vec![format!("curl -i http://{}/", local(ports.stable.inbound))],
        ),
        (
            "Change the weights (in force about a second after you save), then count a hundred answers",
            vec![
                format!("$EDITOR {}", workspace.virtual_service().display()),
                format!(
                    "for i in $(seq 100); do curl -s -x http://{} {TARGET}; done | cut -d, -f1 | sort | uniq -c",
                    outbound(&ports.web)
                ),
            ],
        ),
        (
            "Look inside",
            vec![
                format!("{program} status --control-plane http://{}", local(ports.control_plane_admin)),
                format!("{program} certs --proxy http://{}", local(ports.web.admin)),
                format!("{program} validate {}", workspace.config().display()),
                format!("curl http://{}/config", local(ports.web.admin)),
                format!("curl http://{}/metrics", local(ports.web.health)),
            ],
        ),
        ("Logs", vec![format!("ls {}", workspace.log("web").with_file_name("").display())]),
    ];
    writeln!(out, "\n {}", style.paint(Ink::Head, "It goes on running. To try by hand, in another terminal:"))?;
    for (what, commands) in blocks {
        writeln!(out, "\n  {}", style.paint(Ink::Faint, &format!("# {what}")))?;
        for command in commands {
            writeln!(out, "  {}", style.paint(Ink::Name, &command))?;
        }
    }
    writeln!(out, "\n {}", style.paint(Ink::Head, "Ctrl-C ends everything and removes the files."))?;
    out.flush()
}
