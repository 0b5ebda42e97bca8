from tabular.cli import main

if __name__ == "__main__":
    main()
