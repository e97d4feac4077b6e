//! The story of the demo, from the first process to the last claim.

use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, interval, sleep};

use super::board::Board;
use super::claims::{Callers, judge};
use super::directory::{WEB, Weights, Workspace};
use super::mesh::{Mesh, local};
use super::painter::Painter;
use super::process::{Died, Processes};
use super::traffic::{Client, TARGET, Traffic};
use super::{Settings, hands_on, probes};
use crate::terminal::{Ink, Style};
use crate::{admin, clock};

const WEIGHTS: [Weights; 3] =
    [Weights { stable: 90, canary: 10 }, Weights { stable: 50, canary: 50 }, Weights { stable: 0, canary: 100 }];

/// How long a change may take from the file to every proxy.
const SHIFT: Duration = Duration::from_secs(15);
/// How often other ports are tried when somebody else took one first.
const ATTEMPTS: u32 = 3;
/// Exit code after Ctrl-C before the end, as shells have it.
const INTERRUPTED: u8 = 130;

/// Tells it; returns the exit code.
///
/// # Errors
/// What kept the demo from running to its end, and where the logs are.
pub(super) async fn tell(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut interrupted = pin!(interrupted());
    let mut painter = Painter::new(settings.plain, style, out);
    let mut attempt = 1;
    loop {
        let workspace = Workspace::create()?;
        let processes = Processes::default();
        let result = perform(settings, style, &mut painter, &workspace, &processes, interrupted.as_mut()).await;
        processes.end().await;
        match result {
            Err(error) if attempt < ATTEMPTS && is_port_taken(&error) => attempt += 1,
            Err(error) => {
                let logs = workspace.leave_logs();
                return Err(error.context(format!("the demo could not go on; the logs are in {}", logs.display())));
            }
            Ok(Ending::AllTrue) => return Ok(0),
            Ok(Ending::NotAllTrue) => {
                let logs = workspace.leave_logs();
                writeln!(painter.out(), "\nNot everything was as claimed. The logs are in {}", logs.display())?;
                return Ok(1);
            }
            Ok(Ending::Interrupted) => {
                drop(workspace);
                writeln!(painter.out(), "\nStopped; every process has ended and the temporary files are gone.")?;
                return Ok(INTERRUPTED);
            }
        }
    }
}

/// How a demo ends that nothing kept from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    AllTrue,
    NotAllTrue,
    Interrupted,
}

/// Shows everything once, and with `--keep` waits to be interrupted.
async fn perform(
    settings: &Settings,
    style: Style,
    painter: &mut Painter<'_>,
    workspace: &Workspace,
    processes: &Processes,
    mut interrupted: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<Ending> {
    let board = Arc::new(Board::new(WEIGHTS.len()));
    let played = tokio::select! {
        played = play(settings, workspace, processes, &board) => played.map(Some),
        error = painter.run(&board) => Err(error.into()),
        dead = processes.first_death() => Err(dead.into()),
        () = &mut interrupted => Ok(None),
    };
    painter.finish(&board)?;
    let Some(mesh) = played? else { return Ok(Ending::Interrupted) };
    let is_all_true = conclude(&board, &mesh, style, painter.out())?;
    if settings.keep {
        hands_on::print(workspace, &mesh, style, painter.out())?;
        tokio::select! {
            dead = processes.first_death() => return Err(dead.into()),
            () = &mut interrupted => {}
        }
    }
    Ok(if is_all_true { Ending::AllTrue } else { Ending::NotAllTrue })
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Died>().is_some_and(Died::is_port_taken)
}

/// Everything that is shown live.
async fn play(
    settings: &Settings,
    workspace: &Workspace,
    processes: &Processes,
    board: &Arc<Board>,
) -> anyhow::Result<Mesh> {
    let mesh = Mesh::start(workspace, processes, &|text| board.note(text)).await?;
    first_answer(&mesh).await?;
    board.begin_epoch(WEIGHTS[0], true);
    let traffic = Traffic::start(local(mesh.ports.web.outbound), settings.requests_per_second, board);
    board.note(format!("traffic flows: {} requests per second from dev/web", settings.requests_per_second));

    let each = settings.traffic_time() / u32::try_from(WEIGHTS.len())?;
    sleep(each / 3).await;
    let refusal = probes::foreign_identity(local(mesh.ports.intruder.outbound)).await;
    board.note(format!("dev/intruder called prodsvc: {}", refusal.what));
    board.intruder(refusal);
    sleep(each / 3).await;
    let refusal = probes::plain_text(local(mesh.ports.stable.inbound)).await;
    board.note(format!("plain HTTP to the proxy of prodsvc: {}", refusal.what));
    board.plaintext(refusal);
    sleep(each / 3).await;

    for weights in &WEIGHTS[1..] {
        shift(workspace, &mesh, board, *weights).await?;
        sleep(each).await;
    }
    traffic.stop().await;
    board.note("traffic stopped".to_owned());
    Ok(mesh)
}

/// The first request makes the proxy ask the control plane where prodsvc is; it must be answered too.
async fn first_answer(mesh: &Mesh) -> anyhow::Result<()> {
    let answer = Client::new(local(mesh.ports.web.outbound)).ask(TARGET).await.context("the first request")?;
    if answer.status != 200 {
        bail!("the first request got {} {} {}", answer.status, answer.error.unwrap_or_default(), answer.body);
    }
    Ok(())
}

/// Writes other weights while traffic flows, and waits until the client's proxy has acknowledged them.
async fn shift(workspace: &Workspace, mesh: &Mesh, board: &Board, weights: Weights) -> anyhow::Result<()> {
    let Weights { stable, canary } = weights;
    let before = acked(mesh).await?;
    board.begin_epoch(weights, false);
    workspace.write_weights(weights).context("writing the VirtualService")?;
    board.note(format!("weights {stable}/{canary} written to virtualservice.yaml"));
    let written = clock::now();
    let mut ticks = interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let now = acked(mesh).await?;
        if now.is_some() && now != before {
            break;
        }
        if Instant::from_std(clock::now()) > Instant::from_std(written) + SHIFT {
            bail!("the weights {stable}/{canary} were not in force on dev/web within {} s", SHIFT.as_secs());
        }
    }
    board.begin_epoch(weights, true);
    let took = clock::now().duration_since(written).as_secs_f64();
    board.note(format!("weights {stable}/{canary} in force on dev/web, {took:.2} s after the write"));
    Ok(())
}

/// The version of prodsvc's destination that the client's proxy has acknowledged.
async fn acked(mesh: &Mesh) -> anyhow::Result<Option<String>> {
    let view = admin::get_json(local(mesh.ports.control_plane_admin), "/proxies").await?;
    Ok(crate::status::acked_version(&view, &WEB.workload(), "destination/prodsvc.prod.svc.cluster.local:80"))
}

/// Says what was claimed and whether it was true.
fn conclude(board: &Board, mesh: &Mesh, style: Style, out: &mut dyn Write) -> std::io::Result<bool> {
    let mut callers = Callers::default();
    for (caller, count) in mesh.stable.callers().into_iter().chain(mesh.canary.callers()) {
        if caller == "spiffe://cluster.local/ns/dev/sa/web" {
            callers.expected += count;
        } else {
            callers.others += count;
        }
    }
    let claims = judge(&board.facts(), callers);
    writeln!(out, "\n {}", style.paint(Ink::Head, "What was claimed, and whether it was true"))?;
    for claim in &claims {
        let (mark, ink) = if claim.holds { ("✔", Ink::Good) } else { ("✘", Ink::Bad) };
        writeln!(out, "  {} {}", style.paint(ink, mark), claim.text)?;
    }
    out.flush()?;
    Ok(claims.iter().all(|claim| claim.holds))
}

/// Waits for Ctrl-C or for being asked to end.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            return;
        }
    }
    // When signals cannot be had the demo runs to its own end.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
