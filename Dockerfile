# The command line and the HTTP interface on a CPU, without the page and without PyTorch:
#   docker build -t redoseg .
#   docker run --rm -p 7860:7860 redoseg
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" redoseg segment flowers photos/ -o masks/
FROM python:3.12-slim AS build
ARG EXTRAS=api
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY redoseg redoseg
RUN python -m venv --without-pip /opt/redoseg
RUN pip --python /opt/redoseg install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.12-slim
COPY --from=build /opt/redoseg /opt/redoseg
# what is fetched from the hub is kept below HOME, which any user may write to
ENV PATH=/opt/redoseg/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
EXPOSE 7860
ENTRYPOINT ["redoseg"]
CMD ["serve", "flowers", "--no-page", "--host", "0.0.0.0"]
