import Dispatch
import Glibc
import Logging
import ServiceLifecycle
import UnixSignals
import Wording

/// Ends the process when the graceful way takes too long, or when it is told so again. Last in the list of services, so told first.
///
/// Ending like this loses nothing but answers: what callers were promised is on disk before they hear of it.
struct LastResort: Service {
    /// From the first signal on.
    let limit: Duration
    let signals: [UnixSignal]
    let logger: Logger

    func run() async {
        do { try await gracefulShutdown() } catch { return }
        for signal in signals {
            let source = DispatchSource.makeSignalSource(signal: signal.rawValue, queue: .global())
            source.setEventHandler {
                logger.warning("told to stop again, ending at once")
                _exit(128 + signal.rawValue)
            }
            source.setCancelHandler { _ = source }  // never cancelled: it keeps itself
            source.resume()
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + limit.seconds) {
            logger.warning("the shutdown takes too long, ending without its rest")
            _exit(0)
        }
    }
}
