import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket
import Synchronization

/// How an attempt to connect, or the connection that it became, ended. Its TCP connection is closed.
struct AttemptEnding: Sendable {
    /// A `connected` event was delivered.
    let wasConnected: Bool
    /// A prompt's message came over it.
    var hasServed = false
    /// The server has closed it, or has let go of it. Otherwise it may take it for alive for minutes (protocol section 9).
    var isKnownToServer = true
    let reason: String
}

extension EventSocket {
    /// nil for plain http; an error fails every attempt.
    func makeTLSContext() -> Result<NIOSSLContext?, any Error> {
        switch configuration.endpoint.scheme {
        case .http: .success(nil)
        case .https:
            Result {
                var tls = configuration.tls
                tls.shutdownTimeout = TimeAmount(configuration.closeTimeout)
                return try NIOSSLContext(configuration: tls)
            }
        }
    }

    /// TCP connection, TLS, upgrade, frames, close: the whole life of one connection.
    func attempt(_ tls: Result<NIOSSLContext?, any Error>) async -> AttemptEnding {
        let handshake: Handshake
        do {
            handshake = try await connect(try tls.get())
        } catch {
            await close(state.withLock { $0.unfinished })
            return AttemptEnding(wasConnected: false, reason: Self.words(error))
        }
        let ending: AttemptEnding
        do {
            switch try await outcome(of: handshake) {
            case .open(let end): ending = try await end.get()
            case .refused(let reason): ending = AttemptEnding(wasConnected: false, reason: try await reason.get())
            }
        } catch {
            ending = AttemptEnding(wasConnected: false, reason: Self.words(error))
        }
        await close([handshake.channel])
        return ending
    }

    /// The outcome once it is known; a handshake that takes longer than `connectTimeout` fails.
    private func outcome(of handshake: Handshake) async throws -> Upgrade {
        let promise = eventLoop.makePromise(of: Upgrade.self)
        let timer = eventLoop.scheduleTask(in: TimeAmount(configuration.connectTimeout)) { promise.fail(HandshakeTimedOut()) }
        handshake.upgrade.cascade(to: promise)
        defer { timer.cancel() }
        return try await promise.futureResult.get()
    }

    private func close(_ channels: [any Channel]) async {
        for channel in channels {
            channel.close(promise: nil)
            try? await channel.closeFuture.get()  // never fails
        }
    }

    /// What a person can make something of.
    private static func words(_ error: any Error) -> String {
        switch error {
        case is HandshakeTimedOut: "the server accepted the connection, but did not finish the handshake in time"
        case let error as NIOHTTPClientUpgradeError where error == .upgraderDeniedUpgrade:
            "the server's answer to the handshake has a wrong Sec-WebSocket-Accept"
        case let error as NIOHTTPClientUpgradeError where error == .responseProtocolNotFound:
            "the server switched to a protocol other than WebSocket"
        case ChannelError.inappropriateOperationForState, ChannelError.ioOnClosedChannel, ChannelError.alreadyClosed, ChannelError.eof:
            "the connection was closed during the handshake"
        default: NetworkWords.of(error)
        }
    }
}

private struct HandshakeTimedOut: Error {}
