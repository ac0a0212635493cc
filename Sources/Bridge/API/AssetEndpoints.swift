import MicroHTTP
import OrderedJSON

/// `/api/v2/assets`: outputs as bytes with an id.
struct AssetEndpoints: Sendable {
    let api: API

    func get(_ request: Request, _ path: PathParameters) async throws -> Response {
        .json(api.representation(for: request).asset(try await output(path)))
    }

    func content(_ request: Request, _ path: PathParameters) async throws -> Response {
        try await api.content.response(for: output(path), request: request, headers: [:])
    }

    private func output(_ path: PathParameters) async throws -> Output {
        guard let output = try await api.service.output(path["id"]) else {
            throw APIError.notFound("There is no asset '\(path["id"].prefix(100))' (any more). Outputs are listed in their job and kept as long as it.")
        }
        return output
    }
}
