import io.grpc.Channel;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import io.vecserve.v1.EmbedStreamRequest;
import io.vecserve.v1.EmbedStreamResponse;
import io.vecserve.v1.EmbeddingServiceGrpc;
import io.vecserve.v1.ItemResult;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;

/** The part to copy: embeds through a stream, sends again what has no answer, and reads the vectors. */
public final class Embedder {
  /**
   * Answers all requests, each of one item, by item id. What has no answer is sent again while the
   * server is away, for about a minute; embedding twice does no harm.
   */
  public static Map<String, ItemResult> embed(Channel channel, List<EmbedStreamRequest> requests)
      throws InterruptedException {
    var results = new ConcurrentHashMap<String, ItemResult>();
    for (int attempt = 1; ; attempt++) {
      Status status = exchange(channel, requests, results);
      if (results.size() == requests.size()) {
        return results;
      }
      if (status.getCode() != Status.Code.UNAVAILABLE || attempt == 15) {
        throw status.asRuntimeException();
      }
      int pauseMs = 500 * attempt;
      System.err.printf("unavailable: %s; again in %d ms%n", status.getDescription(), pauseMs);
      Thread.sleep(pauseMs);
    }
  }

  /** Sends in one stream what has no result, and adds the answers. Returns how the stream ended. */
  private static Status exchange(
      Channel channel, List<EmbedStreamRequest> requests, Map<String, ItemResult> results) {
    var ended = new CompletableFuture<Status>();
    var answers =
        new StreamObserver<EmbedStreamResponse>() {
          @Override
          public void onNext(EmbedStreamResponse response) {
            for (ItemResult result : response.getResultsList()) {
              // In band, it means that the model is still being loaded: not an answer yet.
              if (result.getError().getCode() != Status.Code.UNAVAILABLE.value()) {
                results.put(result.getItemId(), result);
              }
            }
          }

          @Override
          public void onError(Throwable error) {
            ended.complete(Status.fromThrowable(error));
          }

          @Override
          public void onCompleted() {
            ended.complete(Status.UNAVAILABLE.withDescription("a model is being loaded"));
          }
        };
    // onNext never blocks: gRPC keeps what the server does not take yet.
    var stream = EmbeddingServiceGrpc.newStub(channel).embedStream(answers);
    requests.stream()
        .filter(request -> !results.containsKey(request.getItems(0).getItemId()))
        .forEach(stream::onNext);
    stream.onCompleted();
    return ended.join();
  }

  /** Reads little-endian float32. */
  public static FloatBuffer vectorOf(ItemResult result) {
    var data = result.getEmbedding().getVectors(0).getData();
    return data.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
  }
}
