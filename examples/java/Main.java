import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import io.vecserve.v1.EmbedOptions;
import io.vecserve.v1.EmbedStreamRequest;
import io.vecserve.v1.EmbedStreamResponse;
import io.vecserve.v1.EmbeddingServiceGrpc;
import io.vecserve.v1.Item;
import io.vecserve.v1.ItemResult;
import io.vecserve.v1.ListModelsRequest;
import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
 *
 * <p>Usage: Main [HOST:PORT [--pause]]. With --pause it waits for Enter before the photos: time to
 * restart the server.
 */
public final class Main {
  private static final int TRIES = 15;
  private static final long FIRST_DELAY_MS = 500;
  private static final long MAX_DELAY_MS = 5000;
  private static final int IN_FLIGHT = 64;

  private static final String TEXT = "all-MiniLM-L6-v2";
  private static final String IMAGE = "clip-vit-base-patch32";
  private static final String AUDIO = "whisper-base";
  private static final String[][] PAIRS = {
    {"reset-password", "forgot-login"},
    {"dog-dalmatian.jpg", "dog-mastiff.jpg"},
    {"austen-0880.flac", "austen-0890.flac"},
  };

  /** One item a message, so that each can have its model and options. */
  private static EmbedStreamRequest request(String model, Item.Builder item) {
    return EmbedStreamRequest.newBuilder().setModel(model).addItems(item).build();
  }

  private static EmbedStreamRequest text(String id, String text) {
    return request(TEXT, Item.newBuilder().setItemId(id).setText(text));
  }

  private static EmbedStreamRequest image(String id, ByteString image) {
    return request(IMAGE, Item.newBuilder().setItemId(id).setImage(image));
  }

  private static EmbedStreamRequest audio(String id, ByteString audio) {
    return request(AUDIO, Item.newBuilder().setItemId(id).setAudio(audio));
  }

  private static ByteString read(String name) throws IOException {
    return ByteString.copyFrom(Files.readAllBytes(Path.of("../data", name)));
  }

  /**
   * Streams the requests and calls onResult for each answered item, as it is ready. What has no
   * answer is sent again while the server is away; embedding twice does no harm.
   */
  private static void embed(
      ManagedChannel channel, List<EmbedStreamRequest> requests, Consumer<ItemResult> onResult)
      throws InterruptedException {
    var waiting = new ConcurrentHashMap<String, EmbedStreamRequest>();
    requests.forEach(request -> waiting.put(request.getItems(0).getItemId(), request));
    long delay = FIRST_DELAY_MS;
    for (int attempt = 1; ; attempt++) {
      Status status = exchange(channel, waiting, onResult);
      if (waiting.isEmpty()) {
        return;
      }
      if (status.getCode() != Status.Code.UNAVAILABLE || attempt == TRIES) {
        throw status.asRuntimeException();
      }
      System.err.printf("unavailable: %s; again in %.1f s%n", status.getDescription(), delay / 1e3);
      Thread.sleep(delay);
      delay = Math.min(2 * delay, MAX_DELAY_MS);
    }
  }

  /** Runs one stream. Removes from waiting what was answered; returns why anything was not. */
  private static Status exchange(
      ManagedChannel channel,
      Map<String, EmbedStreamRequest> waiting,
      Consumer<ItemResult> onResult)
      throws InterruptedException {
    var ended = new CompletableFuture<Status>();
    // onNext never blocks, so this bounds what is sent and not answered.
    var slots = new Semaphore(IN_FLIGHT);
    var answers =
        new StreamObserver<EmbedStreamResponse>() {
          private Status reason = Status.UNKNOWN.withDescription("the stream ended early");

          @Override
          public void onNext(EmbedStreamResponse response) {
            for (ItemResult result : response.getResultsList()) {
              // In band, it means that the model is still being loaded.
              if (statusOf(result).getCode() == Status.Code.UNAVAILABLE) {
                reason = statusOf(result);
              } else {
                waiting.remove(result.getItemId());
                onResult.accept(result);
              }
              slots.release();
            }
          }

          @Override
          public void onError(Throwable error) {
            end(Status.fromThrowable(error));
          }

          @Override
          public void onCompleted() {
            end(reason);
          }

          private void end(Status status) {
            ended.complete(status);
            slots.release(); // lets the sender see it
          }
        };
    var items = EmbeddingServiceGrpc.newStub(channel).embedStream(answers);
    for (EmbedStreamRequest request : List.copyOf(waiting.values())) {
      slots.acquire();
      if (ended.isDone()) {
        return ended.join();
      }
      items.onNext(request);
    }
    items.onCompleted();
    return ended.join();
  }

  private static Status statusOf(ItemResult result) {
    var error = result.getError();
    return Status.fromCodeValue(error.getCode()).withDescription(error.getMessage());
  }

  /** Reads little-endian float32. */
  private static FloatBuffer vectorOf(ItemResult result) {
    ByteString data = result.getEmbedding().getVectors(0).getData();
    return data.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
  }

  private static double cosine(FloatBuffer a, FloatBuffer b) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (int i = 0; i < a.limit(); i++) {
      ab += (double) a.get(i) * b.get(i);
      aa += (double) a.get(i) * a.get(i);
      bb += (double) b.get(i) * b.get(i);
    }
    return ab / Math.sqrt(aa * bb);
  }

  public static void main(String[] args) throws IOException, InterruptedException {
    String address = args.length > 0 ? args[0] : "127.0.0.1:8001";
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    var vectors = new HashMap<String, FloatBuffer>();
    Consumer<ItemResult> onResult =
        result -> {
          String id = result.getItemId();
          if (result.hasError()) {
            Status status = statusOf(result);
            System.out.printf("error %s %s %s%n", id, status.getCode(), status.getDescription());
          } else {
            vectors.put(id, vectorOf(result));
            System.out.printf("vector %s %d%n", id, vectors.get(id).limit());
          }
        };

    var microsecond = EmbedOptions.newBuilder().setTimeout(Duration.newBuilder().setNanos(1000));
    List<EmbedStreamRequest> sentences =
        List.of(
            text("reset-password", "How do I reset my password?"),
            text("forgot-login", "I forgot my login details."),
            image("broken.jpg", ByteString.copyFromUtf8("not a JPEG")),
            text("late", "Too late.").toBuilder().setOptions(microsecond).build());
    embed(channel, sentences, onResult);
    if (args.length > 1 && args[1].equals("--pause")) {
      System.out.println("press Enter to go on");
      System.in.read();
    }
    List<EmbedStreamRequest> media =
        List.of(
            image("dog-dalmatian.jpg", read("photos/dog-dalmatian.jpg")),
            image("dog-mastiff.jpg", read("photos/dog-mastiff.jpg")),
            audio("austen-0880.flac", read("speech/austen-0880.flac")),
            audio("austen-0890.flac", read("speech/austen-0890.flac")));
    embed(channel, media, onResult);

    for (String[] pair : PAIRS) {
      double similarity = cosine(vectors.get(pair[0]), vectors.get(pair[1]));
      System.out.printf(Locale.ROOT, "similarity %s %s %.6f%n", pair[0], pair[1], similarity);
    }
    var reply =
        EmbeddingServiceGrpc.newBlockingStub(channel)
            .withDeadlineAfter(10, TimeUnit.SECONDS)
            .listModels(ListModelsRequest.getDefaultInstance());
    for (var model : reply.getModelsList()) {
      if (!model.getTrained() && List.of(TEXT, IMAGE, AUDIO).contains(model.getName())) {
        System.out.printf(
            "untrained %s has random weights, its vectors mean nothing%n", model.getName());
      }
    }
    channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
  }
}
