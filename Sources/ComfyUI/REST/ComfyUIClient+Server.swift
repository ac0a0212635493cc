import AsyncHTTPClient
import NIOHTTP1
import OrderedCollections
package import OrderedJSON

extension ComfyUIClient {
    /// `GET /object_info`: every node class. Computed by ComfyUI on its event loop at each call, some 100 kB to many MB.
    package func objectInfo() async throws(ComfyUIError) -> JSONObject {
        try await object(request(.GET, "/object_info"))
    }

    /// `GET /object_info/{class}`; nil for a class that ComfyUI does not have.
    package func objectInfo(class name: String) async throws(ComfyUIError) -> JSON? {
        try await object(request(.GET, "/object_info/\(ComfyEndpoint.percentEncoded(name))"))[name]
    }

    /// `GET /system_stats`: versions, memory, devices; the members vary by version.
    package func systemStats() async throws(ComfyUIError) -> JSON {
        .object(try await object(request(.GET, "/system_stats")))
    }

    /// `GET /features`: the server's feature flags.
    package func features() async throws(ComfyUIError) -> JSON {
        .object(try await object(request(.GET, "/features")))
    }

    /// `GET /node_replacements`: classes that ComfyUI exchanges for a successor; empty on versions without the route.
    package func nodeReplacements() async throws(ComfyUIError) -> JSONObject {
        do throws(ComfyUIError) {
            return try await object(request(.GET, "/node_replacements"))
        } catch .notFound {
            return [:]
        }
    }

    /// `POST /free`. Takes effect after the running prompt; `freeMemory` also drops the cached results.
    package func free(unloadModels: Bool, freeMemory: Bool) async throws(ComfyUIError) {
        let body: JSON = ["unload_models": .bool(unloadModels), "free_memory": .bool(freeMemory)]
        try await acknowledged(jsonRequest("/free", body: body.encoded()))
    }

    private func object(_ request: HTTPClientRequest) async throws(ComfyUIError) -> JSONObject {
        let answer = try await answer(to: request)
        guard let members = try Self.json(answer).object else { throw ComfyUIError.badAnswer(answer) }
        return members
    }
}
