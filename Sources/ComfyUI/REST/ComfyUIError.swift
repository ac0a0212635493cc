/// What can go wrong when ComfyUI is asked for something over HTTP.
///
/// `unreachable` means that the request was never sent. After `connectionLost` and `timedOut` ComfyUI may have acted on it (protocol section 17.6:
/// look into the queue before sending a prompt again).
package enum ComfyUIError: Error, Sendable, Hashable {
    /// No connection: refused, unknown host, TLS failure. Nothing was sent.
    case unreachable(reason: String)
    /// The connection broke, or did not speak HTTP, while the request was under way.
    case connectionLost(reason: String)
    /// No answer, or no more of it, within the client's `requestTimeout`.
    case timedOut
    /// The calling task was cancelled.
    case cancelled
    /// 400 to a prompt, in ComfyUI's words.
    case rejected(PromptRejection)
    /// An answer that the route does not give: plain text 500, a proxy's HTML, JSON of another shape. `bodyStart` has at most 512 bytes.
    case badAnswer(status: Int, bodyStart: String)
    /// 413: more than the server's `--max-upload-size`; nil when the answer does not name the limit in bytes.
    case tooLarge(limit: Int?)
    /// The answer has more bytes than this client takes.
    case answerTooLarge(limit: Int)
    /// 404 from a route that otherwise has a result: no such file, or a server (or path) that is no ComfyUI.
    case notFound
}

extension ComfyUIError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unreachable(let reason): "ComfyUI cannot be reached: \(reason)"
        case .connectionLost(let reason): "the connection to ComfyUI broke: \(reason)"
        case .timedOut: "ComfyUI did not answer in time"
        case .cancelled: "the request to ComfyUI was cancelled"
        case .rejected(let rejection): "ComfyUI rejected the workflow: \(rejection.message)"
        case .badAnswer(let status, let bodyStart):
            if let refusal = Self.refusal(status: status, page: bodyStart) {
                refusal
            } else {
                "ComfyUI answered \(status) with an unexpected body: \(PageText.words(bodyStart))"
            }
        case .tooLarge(let limit?): "ComfyUI takes at most \(limit) bytes in one request"
        case .tooLarge(nil): "the request is larger than ComfyUI takes"
        case .answerTooLarge(let limit): "ComfyUI's answer has more than \(limit) bytes"
        case .notFound: "ComfyUI does not know what was asked for"
        }
    }

    /// What an answer means that wants to know who asks, and what to do; nil for another one.
    package static func refusal(status: Int, page: String) -> String? {
        guard [401, 403, 407].contains(status) else { return nil }
        let words = PageText.words(page)
        return "ComfyUI, or a proxy before it, refuses the bridge with status \(status)\(words.isEmpty ? "" : " (\(words))"); "
            + "give its credentials with --comfyui-header or --comfyui-header-file, or as user:password@ in --comfyui"
    }
}
