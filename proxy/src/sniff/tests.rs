#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use causeway_mesh::detect::Detected;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::{Habit, Heard, SILENCE, both, server_name};
use crate::connect::Upstream;

/// A connection to a server that says `greeting` to whoever comes.
async fn dial(greeting: &'static [u8]) -> Option<(Upstream, ())> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(async move {
        let mut accepted = listener.accept().await.unwrap().0;
        accepted.write_all(greeting).await.unwrap();
        let _ = accepted.read(&mut [0]).await;
    });
    Some((Upstream::Plain(stream), ()))
}

async fn heard(habit: &Habit, client: &[u8], greeting: &'static [u8]) -> Heard<()> {
    let (mut near, mut far) = tokio::io::duplex(4096);
    far.write_all(client).await.unwrap();
    both(&mut near, &mut BytesMut::new(), habit, dial(greeting)).await
}

#[tokio::test]
async fn a_silent_client_hears_the_server_and_the_next_one_hears_it_at_once() {
    let habit = Habit::default();
    assert!(habit.silence().is_zero(), "nothing is known: the server is dialled at once");
    for _ in 0..2 {
        let Heard::Server(_, said) = heard(&habit, b"", b"220 hello\r\n").await else {
            panic!("the server was not heard")
        };
        assert!(!said.is_empty());
        assert!(habit.silence().is_zero());
    }
}

#[tokio::test]
async fn where_clients_speak_first_servers_are_not_dialled_for_nothing() {
    let habit = Habit::default();
    let Heard::Client(Detected::Http1, dialled) = heard(&habit, b"GET / HTTP/1.1\r\n", b"220 hello\r\n").await else {
        panic!("the client spoke")
    };
    assert!(dialled.is_none(), "the client's bytes were there before anybody dialled");
    assert_eq!(habit.silence(), SILENCE);
    let Heard::Server(..) = heard(&habit, b"", b"220 hello\r\n").await else { panic!("the server was not heard") };
    assert!(habit.silence().is_zero());
}

#[tokio::test]
async fn what_was_dialled_is_handed_on_with_the_clients_first_bytes() {
    let (mut near, mut far) = tokio::io::duplex(4096);
    let habit = Habit::default();
    let (connected, wait) = tokio::sync::oneshot::channel();
    let dial = async {
        let dialled = dial(b"").await;
        connected.send(()).unwrap();
        dialled
    };
    tokio::spawn(async move {
        wait.await.unwrap();
        tokio::task::yield_now().await;
        far.write_all(b"\x03\x00\x00\x01x").await.unwrap();
        let _ = far.read(&mut [0]).await;
    });
    let Heard::Client(Detected::Opaque, Some(_)) = both(&mut near, &mut BytesMut::new(), &habit, dial).await else {
        panic!("the client spoke after the connection was there")
    };
}

async fn named(pieces: &[&[u8]]) -> Option<Option<String>> {
    let (mut near, mut far): (DuplexStream, DuplexStream) = tokio::io::duplex(1);
    let pieces = pieces.concat();
    let writer = tokio::spawn(async move {
        let _ = far.write_all(&pieces).await;
    });
    let name = server_name(&mut near, &mut BytesMut::new()).await;
    drop(near);
    writer.await.unwrap();
    name
}

#[tokio::test]
async fn a_name_is_read_byte_by_byte_and_a_hello_that_ends_early_is_nobodys() {
    let name = b"db.example";
    let list = [&[0, 13, 0, 0, 10][..], name].concat();
    let extensions = [&[0, 19, 0, 0, 0, 15][..], &list].concat();
    let body = [&[3, 3][..], &[0; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let record = [&[22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8][..], &body].concat();
    assert_eq!(named(&[&record]).await, Some(Some("db.example".to_owned())));
    assert_eq!(named(&[&record[..record.len() - 1]]).await, None);
    assert_eq!(named(&[b"GET / HTTP/1.1\r\n"]).await, Some(None));
}
