import FoundationEssentials
import Jobs
import OrderedJSON
import Synchronization

/// Assets in memory, gone with the process.
final class MemoryAssetStore: AssetStore {
    fileprivate struct State {
        var assets: [Name: Asset] = [:]
        var byHash: [ContentHash: Set<String>] = [:]
        /// Uploads, in the order of their arrival.
        var byPath: [Name: [String]] = [:]
    }

    private let state = Mutex(State())

    func insert(_ asset: Asset) {
        state.withLock { state in
            guard state.assets.updateValue(asset, forKey: Name(asset.id)) == nil else { return }
            if let hash = asset.blob.hash { state.byHash[hash, default: []].insert(asset.id) }
            if asset.job == nil { state.byPath[Name(asset.filePath), default: []].append(asset.id) }
        }
    }

    func remove(_ id: String) -> Asset? {
        state.withLock { state in
            guard let asset = state.assets.removeValue(forKey: Name(id)) else { return nil }
            if let hash = asset.blob.hash {
                state.byHash[hash]?.remove(id)
                if state.byHash[hash]?.isEmpty ?? false { state.byHash[hash] = nil }
            }
            if asset.job == nil {
                state.byPath[asset.filePath]?.removeAll { $0 == id }
                if state.byPath[asset.filePath]?.isEmpty ?? false { state.byPath[asset.filePath] = nil }
            }
            return asset
        }
    }

    func recordHash(of asset: Asset) {
        state.withLock { state in
            guard let hash = asset.blob.hash, state.assets[asset.id] != nil else { return }
            state.byHash[hash, default: []].insert(asset.id)
        }
    }

    func asset(_ id: String) -> Asset? { state.withLock { $0.assets[id] } }
    func asset(withHash hash: ContentHash) -> Asset? {
        state.withLock { state in state.byHash[hash]?.first.flatMap { state.assets[$0] } }
    }
    func upload(at filePath: String) -> Asset? {
        state.withLock { state in state.byPath[filePath]?.last.flatMap { state.assets[$0] } }
    }
    func upload(like asset: Asset) -> Asset? {
        state.withLock { state in
            guard let hash = asset.blob.hash else { return nil }
            let uploads = state.byPath[asset.filePath]?.compactMap { state.assets[$0] } ?? []
            return uploads.first { $0.blob.hash == hash && $0.contentType == asset.contentType && $0.tags == asset.tags }
        }
    }
    func expired(before date: Date) -> [Asset] {
        state.withLock { state in state.assets.values.filter { $0.expiresAt.map { $0 < date } ?? false } }
    }
}
