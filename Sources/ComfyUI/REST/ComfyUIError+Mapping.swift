import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import OrderedJSON

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

extension ComfyUIError {
    /// The error for an answer with a status that the route does not succeed with.
    init(_ answer: ComfyUIClient.Answer) {
        switch answer.status {
        case 404: self = .notFound
        case 413: self = .tooLarge(limit: Self.limit(in: answer.body))
        default: self = .badAnswer(answer)
        }
    }

    static func badAnswer(_ answer: ComfyUIClient.Answer) -> ComfyUIError {
        .badAnswer(status: answer.status, bodyStart: String(decoding: answer.body.readableBytesView.prefix(512), as: UTF8.self))
    }

    /// The error for what the HTTP client throws.
    init(transport error: any Error) {
        switch error {
        case let error as ComfyUIError: self = error
        case let error as HTTPClientError: self.init(httpClient: error)
        case is CancellationError: self = .cancelled
        case is TimeLimitExceeded: self = .timedOut
        case is NIOConnectionError, is NIOSSLExtraError, NIOSSLError.handshakeFailed, NIOSSLError.unableToValidateCertificate,
            NIOSSLError.noCertificateToValidate:
            self = .unreachable(reason: NetworkWords.of(error))
        case let error as IOError where Self.connectErrors.contains(error.errnoCode): self = .unreachable(reason: NetworkWords.of(error))
        default: self = .connectionLost(reason: NetworkWords.of(error))
        }
    }

    private init(httpClient error: HTTPClientError) {
        switch error {
        case .cancelled: self = .cancelled
        case .deadlineExceeded, .readTimeout, .writeTimeout: self = .timedOut
        case .connectTimeout, .tlsHandshakeTimeout, .getConnectionFromPoolTimeout, .alreadyShutdown:
            self = .unreachable(reason: NetworkWords.of(error))
        default: self = .connectionLost(reason: NetworkWords.of(error))
        }
    }

    /// What `socket(2)` and `connect(2)` fail with, and a connection that is made does not (within our time limits).
    private static let connectErrors: Set<CInt> = [
        ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN, EADDRNOTAVAIL, EACCES, EPERM, EMFILE, ENFILE,
    ]

    /// `Maximum request body size 104857600 exceeded.`
    private static func limit(in body: ByteBuffer) -> Int? {
        let text = String(decoding: body.readableBytesView.prefix(512), as: UTF8.self)
        guard let start = text.firstRange(of: "size ") else { return nil }
        return Int(text[start.upperBound...].prefix(while: \.isNumber))
    }
}
