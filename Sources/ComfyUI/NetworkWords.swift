import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket
import Wording

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// What a person can make something of, for the errors of the libraries that carry bytes: their own texts are dumps of Swift enums.
package enum NetworkWords {
    /// Without a full stop, to go into a sentence.
    package static func of(_ error: any Error) -> String {
        switch error {
        case let error as ComfyUIError: error.description
        case let error as HTTPClientError: words(error)
        case let error as NIOConnectionError: words(error)
        case let error as SocketAddressError.UnknownHost: unknownHost(error.host)
        case is SocketAddressError: "this is no address"
        case let error as IOError: String(cString: strerror(error.errnoCode)).lowercased()
        case is NIOSSLError, is BoringSSLError, is NIOSSLExtraError: tls(error)
        case let error as HTTPParserError: words(error)
        case ChannelError.connectTimeout: "no connection within the time limit"
        case is ChannelError: "the connection was closed"
        case let error as NIOWebSocketError: words(error)
        case let error as NIOWebSocketFrameAggregator.Error: words(error)
        case is NIOHTTPClientUpgradeError: "its answer to the handshake is none"
        case is EventLoopError: "the process is about to end"
        case is TimeLimitExceeded: "no answer in time"
        default: ErrorWords.of(error)
        }
    }

    private static func unknownHost(_ host: String) -> String { "the name \(host) cannot be resolved" }

    private static func words(_ error: HTTPClientError) -> String {
        switch error {
        case .connectTimeout: "no connection within the time limit"
        case .tlsHandshakeTimeout: "the TLS handshake was not finished within the time limit"
        case .remoteConnectionClosed: "the connection was closed"
        case .deadlineExceeded, .readTimeout, .writeTimeout: "no answer in time"
        default: error.shortDescription.lowercased()
        }
    }

    private static func words(_ error: NIOConnectionError) -> String {
        if let failure = error.connectionErrors.first { return of(failure.error) }
        if error.dnsAError != nil || error.dnsAAAAError != nil { return unknownHost(error.host) }
        return "no connection to \(error.host) port \(error.port)"
    }

    private static func words(_ error: HTTPParserError) -> String {
        switch error {
        case .headerOverflow: "the head of its answer is too long"
        case .invalidEOFState, .closedConnection: "it closed the connection in the middle of an answer"
        default: "it does not speak HTTP there (is it https?)"
        }
    }

    private static func words(_ error: NIOWebSocketError) -> String {
        switch error {
        case .invalidFrameLength: "a frame is too long"
        case .fragmentedControlFrame: "a control frame came in pieces"
        case .multiByteControlFrameLength: "a control frame is longer than 125 bytes"
        }
    }

    private static func words(_ error: NIOWebSocketFrameAggregator.Error) -> String {
        switch error {
        case .nonFinalFragmentSizeIsTooSmall: "the pieces of a message are too small"
        case .tooManyFragments: "a message has too many pieces"
        case .accumulatedFrameSizeIsTooLarge: "a message is too long"
        case .receivedNewFrameWithoutFinishingPrevious: "a message began before the one before it was over"
        case .didReceiveFragmentBeforeReceivingTextOrBinaryFrame: "a message began in its middle"
        }
    }

    // MARK: TLS

    private static func tls(_ error: any Error) -> String {
        if error as? NIOSSLExtraError == .failedToValidateHostname {
            return "its TLS certificate is for another host name (use the name that it has, or --comfyui-insecure)"
        }
        switch error as? NIOSSLError {
        case .uncleanShutdown: return "it closed the TLS connection without a goodbye"
        case .handshakeFailed(.syscallError): return "it closed the connection during the TLS handshake"
        case .handshakeFailed(.sslError(let stack)) where stack.contains(.eofDuringHandshake): return "it closed the connection during the TLS handshake"
        default: break
        }
        let reason = reason(of: error)
        return switch reason {
        case "CERTIFICATE_VERIFY_FAILED":
            "its TLS certificate is not trusted: it is self-signed, or of an authority that is not known here, or has expired "
                + "(name the authority with --comfyui-ca, or use --comfyui-insecure)"
        case "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "INVALID_OUTER_RECORD_TYPE": "it does not speak TLS there (is it http?)"
        case "UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION": "it has no version of TLS in common with the bridge"
        case "NO_SHARED_CIPHER", "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY": "it refused the TLS handshake"
        case "TLSV1_CERTIFICATE_REQUIRED", "TLSV1_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE", "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            "it asks for a client certificate, which the bridge cannot send"
        case "TLSV1_ALERT_UNRECOGNIZED_NAME", "TLSV1_UNRECOGNIZED_NAME": "it does not know its own host name (the TLS name was refused)"
        case let reason?: "TLS failed (\(reason.lowercased().split(separator: "_").joined(separator: " ")))"
        case nil: "TLS failed"
        }
    }

    /// BoringSSL's name for it: `CERTIFICATE_VERIFY_FAILED`. There is no other way to it than the text, which goes on with a file of its source.
    private static func reason(of error: any Error) -> String? {
        let text = "\(error)"
        guard let mark = text.firstRange(of: "OPENSSL_internal:") else { return nil }
        let reason = text[mark.upperBound...].prefix { $0 == "_" || $0.isASCII && ($0.isLetter || $0.isNumber) }
        return reason.isEmpty ? nil : String(reason)
    }
}

/// The text of an answer that is a page for people, as proxies and servers give them instead of their API's.
package enum PageText {
    /// On one line, without tags, cut.
    package static func words(_ page: String, limit: Int = 200) -> String {
        var text = page
        if page.contains(/<(?i:!doctype|\/?[a-z])/) {
            // What is cut off within a tag or a script has no end.
            text = text.replacing(/(?is)<!--.*?(?:-->|$)|<(script|style)\b.*?(?:<\/\1\s*>|$)/, with: " ")
            if let title = text.firstMatch(of: /(?is)<title[^>]*>(.*?)<\/title\s*>/) {
                let rest = text[title.range.upperBound...]
                if rest.contains(title.output.1) { text.removeSubrange(title.range) }
            }
            text = text.replacing(/<[^>]*(?:>|$)/, with: " ")
            for (name, character) in [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")] {
                text = text.replacing(name, with: character)
            }
        }
        let words = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return words.count <= limit ? words : words.prefix(limit) + "…"
    }
}
