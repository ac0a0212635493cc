import Logging
import Synchronization

/// Logs the loss of a ComfyUI and its return, each once, however many attempts to connect fail in between.
final class ConnectionLog: Sendable {
    private enum Told { case nothing, connected, away }

    private let told = Mutex(Told.nothing)

    func note(_ connection: PromptInbox.Connection, in logger: Logger) {
        switch connection {
        case .connected:
            let before = told.withLock { told in
                defer { told = .connected }
                return told
            }
            switch before {
            case .nothing: logger.info("connected to ComfyUI")
            case .connected: logger.debug("connected to ComfyUI")
            case .away: logger.notice("connected to ComfyUI again")
            }
        case .disconnected(_, let reason):
            let isNews = told.withLock { told in
                defer { told = .away }
                return told != .away
            }
            logger.log(level: isNews ? .warning : .debug, "not connected to ComfyUI; trying until it is back", metadata: ["reason": "\(reason)"])
        }
    }
}
