//! Servers that the mesh knows nothing of, on the node itself: nginx with TLS, the test application, a server of bytes.

use std::fmt::Write as _;
use std::path::Path;

use causeway_tests::binaries::binary;
use causeway_tests::certs::Authority;
use causeway_tests::kube::Node;
use causeway_tests::pod::Reply;
use causeway_tests::process::Process;
use causeway_tests::until;

use crate::stage::SOON;

/// The names that the certificate holds.
const HOSTS: &[&str] = &["api.example.test", "outside.example.test"];

/// Running servers: HTTP on 80 and 8080, TLS on 443, TLS that asks for a certificate on 8443, bytes on 9000.
pub struct Outside {
    /// The node's address.
    pub address: String,
    _processes: [Process; 3],
}

impl Outside {
    /// Starts them, and puts what judges them into the Secret `outside` of `dev`: `ca.crt`, which issued their
    /// certificate, `stranger.crt`, which did not, and a pair for the client.
    pub fn start(node: &Node) -> Self {
        let directory = node.directory().join("outside");
        std::fs::create_dir(&directory).unwrap();
        let authority = Authority::new("example.test");
        let (ca, _) = authority.write(&directory);
        authority.server(&directory, "server", HOSTS);
        let (certificate, key) = authority.server(&directory, "client", &["client.example.test"]);
        std::fs::create_dir(directory.join("stranger")).unwrap();
        let (stranger, _) = Authority::new("stranger").write(&directory.join("stranger"));
        let mut secret = vec!["-n".to_owned(), "dev".to_owned()];
        secret.extend(["create", "secret", "generic", "outside"].map(str::to_owned));
        for (name, file) in
            [("ca.crt", &ca), ("stranger.crt", &stranger), ("client.crt", &certificate), ("client.key", &key)]
        {
            secret.push(format!("--from-file={name}={}", file.display()));
        }
        node.kubectl(&secret.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();

        let log = |name: &str| node.directory().join(format!("log/outside-{name}.log"));
        let app = |name: &str, arguments: &[&str]| {
            let mut command = node.enter(binary("causeway-test-app"));
            Process::start(name, command.args(arguments), &log(name))
        };
        std::fs::write(directory.join("nginx.conf"), configuration(&directory)).unwrap();
        let mut nginx = node.enter("nginx");
        nginx.arg("-c").arg(directory.join("nginx.conf")).arg("-p").arg(&directory);
        let processes = [
            Process::start("nginx", &mut nginx, &log("nginx")),
            app("http", &["http", "--name", "outside", "--listen", "0.0.0.0:8080", "--broken", "/broken"]),
            app("bytes", &["tcp-greet", "--name", "outside", "--listen", "0.0.0.0:9000"]),
        ];
        let address = node.address().to_string();
        for port in [80, 8080] {
            until("the outside answers", SOON, || {
                let reply = Reply::of(&mut std::process::Command::new("curl"), &[&format!("http://{address}:{port}/")]);
                if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
            });
        }
        Self { address, _processes: processes }
    }
}

/// Each answer says what nginx saw of the connection.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    let tls = format!(
        "ssl_protocols TLSv1.3; ssl_certificate {directory}/server.crt; ssl_certificate_key {directory}/server.key;"
    );
    let answer = "default_type text/plain; add_header x-app nginx always; return 200 \"$scheme sni=$ssl_server_name \
                  host=$host client=$ssl_client_verify $server_protocol connection=$connection \
                  request=$connection_requests\\n\";";
    let mut text = format!(
        "daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.err; events {{}}\n\
         http {{ access_log off;\n"
    );
    let client = format!("ssl_client_certificate {directory}/ca.crt; ssl_verify_client on;");
    for (listen, more) in [("80", ""), ("443 ssl http2", &*tls), ("8443 ssl", &*format!("{tls} {client}"))] {
        writeln!(text, "server {{ listen {listen}; {more} {answer} }}").unwrap();
    }
    text + "}\n"
}
