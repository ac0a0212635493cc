import Jobs
import Logging
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Wording

/// `/api/v2/assets`: bytes with an id, uploaded by callers or made by jobs.
struct AssetEndpoints: Sendable {
    let api: API

    /// Takes a file while it arrives, in pieces: it goes to disk and is hashed, and is never in memory as a whole.
    func upload(_ request: Request, _: PathParameters) async throws -> Response {
        let (asset, isNew) = try await api.once(request, api.uploadKeys, id: { (asset: Asset, _: Bool) in asset.id }) {
            guard let form = request.form else { throw APIError.unsupportedMediaType }  // the router has refused it
            do {
                let upload = try await AssetUpload(reading: form, into: api.assets.blobs, received: api.metrics.received[.upload])
                return try await api.assets.mint(upload.writer, upload.description)
            } catch let error as StorageError {
                if !error.isDamage { api.content.logger.error("an upload could not be kept", metadata: ["error": "\(ErrorWords.of(error))"]) }
                throw APIError(error)
            }
        }
        return created(asset, isNew: isNew, status: isNew ? 201 : 200, request)
    }

    /// Makes an asset over bytes that are here already, so that nobody sends them twice.
    func fromHash(_ request: Request, _: PathParameters) async throws -> Response {
        let members = try AssetMembers(request)
        do {
            guard let known = try await api.assets.mint(fromHash: members.hash, filePath: members.filePath, tags: members.tags, lifetime: members.lifetime)
            else { throw APIError.blobNotFound }
            return created(known.asset, isNew: false, status: known.isNew ? 201 : 200, request)
        } catch let error as StorageError {
            throw APIError(error)
        }
    }

    /// Whether bytes with this hash are here.
    func lookUp(_: Request, _ path: PathParameters) async throws -> Response {
        guard let hash = ContentHash(path["hash"]), try await api.assets.asset(withHash: hash) != nil else { throw APIError.blobNotFound }
        return Response(status: 200, headers: ["Cache-Control": "no-store"], body: .empty)
    }

    /// The asset; asked for, an unknown hash is computed and will be there the next time.
    func get(_ request: Request, _ path: PathParameters) async throws -> Response {
        let asset = try await asset(path)
        api.assets.findHash(of: asset)
        return .json(.object(api.representation(for: request).asset(asset)))
    }

    func content(_ request: Request, _ path: PathParameters) async throws -> Response {
        try await api.content.response(for: asset(path), request: request, headers: [:])
    }

    func delete(_: Request, _ path: PathParameters) async throws -> Response {
        do { try await api.assets.delete(path["id"]) } catch let error as AssetService.DeletionError {
            switch error {
            case .notFound: throw notFound(path)
            case .inUse: throw APIError.assetInUse
            }
        }
        return Response(status: 204, headers: [:], body: .empty)
    }

    private func asset(_ path: PathParameters) async throws -> Asset {
        guard let asset = try await api.assets.asset(path["id"]) else { throw notFound(path) }
        return asset
    }

    private func notFound(_ path: PathParameters) -> APIError {
        .notFound("There is no asset '\(path["id"].excerpt)' (any more). Outputs are kept as long as their job, uploads until they expire or are deleted.")
    }

    /// - Parameter isNew: whether the bytes were new here.
    private func created(_ asset: Asset, isNew: Bool, status: Int, _ request: Request) -> Response {
        let representation = api.representation(for: request)
        var members = representation.asset(asset)
        members["created_new"] = .bool(isNew)
        return .json(.object(members), status: status, headers: ["Location": representation.links.asset(asset)])
    }
}
