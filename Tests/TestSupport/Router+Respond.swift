import MicroHTTP

@testable import API

extension Router {
    /// As the server does it, for a request with its body.
    func respond(to request: Request) async -> Response {
        switch admit(request) {
        case .answered(let response): response
        case .admitted(_, let respond): await respond(request)
        }
    }
}
